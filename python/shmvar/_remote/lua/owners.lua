-- Whether the owners of locks and taken items live. It stands between common.lua and a script that asks, or before one
-- that only reads.
--
-- A token is `<process>.<number>`. D o has a session for each process: `<deadline> <run> <dead> <pid>`, in us; `run` is
-- the server on whose connection the process's presence was confirmed, `dead` when it was first missed, or 0.

local function session_key() return string.sub(KEYS[2], 1, -2) .. 'o' end

-- More than any lease: a deadline further ahead is damage, or the clock was set back.
local function lies_ahead(deadline, now) return deadline > now and deadline <= now + 172800000000 end

-- What becomes of what a process holds, and the new text of its session if that must be written. Reads only.
--   "held"; "dying": it is missed, but not yet for `grace`; "gone": what it holds is anybody's
local function owner_state(process, now, grace)
    local text = redis.call('HGET', session_key(), process)
    local deadline, run, dead, pid = string.match(text or '', '^(%d+) (%S+) (%d+) (%d+)$')
    if not deadline or not lies_ahead(tonumber(deadline), now) then return 'gone' end
    dead = tonumber(dead)
    if redis.call('PUBSUB', 'SHARDNUMSUB', string.sub(KEYS[2], 1, -2) .. 'p:' .. process)[2] > 0 then
        return 'held', dead ~= 0 and string.format('%s %s 0 %s', deadline, run, pid) or nil
    end
    -- After a failover, or a restart of the server, everybody's connections are gone.
    if run ~= string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') then return 'held' end
    if dead == 0 or dead > now then return 'dying', string.format('%s %s %.0f %s', deadline, run, now, pid) end
    return dead + grace <= now and 'gone' or 'dying'
end

-- The new text of the caller's own session. nil: it lasts for half a lease yet. Reads only.
local function session(process, now, lease, run, pid)
    local text = redis.call('HGET', session_key(), process)
    local deadline, before = string.match(text or '', '^(%d+) (%S+) 0 ')
    deadline = tonumber(deadline or 0)
    if before == run and lies_ahead(deadline, now) and deadline > now + lease / 2 then return nil end
    return string.format('%.0f %s 0 %s', now + lease, run, pid)
end

-- Up to two sessions, drawn by chance, that have ended: a missing one means the same. Reads only.
local function ended_sessions(now)
    local found = {}
    local some = redis.call('HRANDFIELD', session_key(), 2, 'WITHVALUES')
    for at = 1, #some, 2 do
        local deadline = tonumber(string.match(some[at + 1], '^(%d+) ') or 0)
        if not lies_ahead(deadline, now) then found[#found + 1] = some[at] end
    end
    if found[1] then may('HDEL', session_key(), found[1]) end
    return found
end
