-- Whether the owners of locks and taken items live. It stands between common.lua and a script that asks, or before one
-- that only reads.
--
-- A token is `<process>.<number>`. D o has a session for each process: `<deadline> <run> <dead> <lease> <pid>`, in us;
-- `run` is the server that wrote it, with a + where the process's presence was not confirmed on a connection of that
-- server; `dead` when the process was first missed, or 0.

local function session_key() return string.sub(KEYS[2], 1, -2) .. 'o' end

-- More than any lease: a deadline further ahead is damage, or the clock was set back.
local LONGEST = 172800000000

local function this_run() return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') end

local function session_text(deadline, run, dead, lease, pid)
    return string.format('%.0f %s %.0f %.0f %s', deadline, run, dead, lease, pid)
end

-- What becomes of what a process holds, and the new text of its session if that must be written. Reads only. A script
-- that cannot write says so with `reads`.
--   "held"; "dying": it is missed, but not yet for `grace`; "gone": what it holds is anybody's
local function owner_state(process, now, grace, reads)
    local text = redis.call('HGET', session_key(), process)
    local deadline, run, dead, lease, pid = string.match(text or '', '^(%d+) (%S+) (%d+) (%d+) (%d+)$')
    deadline, dead, lease = tonumber(deadline), tonumber(dead), tonumber(lease)
    if not deadline or deadline > now + LONGEST or lease > LONGEST then return 'gone' end
    local there = redis.call('PUBSUB', 'SHARDNUMSUB', string.sub(KEYS[2], 1, -2) .. 'p:' .. process)[2] > 0
    local passed = deadline <= now
    if there and not passed then
        return 'held', dead ~= 0 and session_text(deadline, run, 0, lease, pid) or nil
    end
    local here = this_run()
    if run ~= here and run ~= '+' .. here then
        -- Another server wrote it, by its own clock, and everybody's connections are gone: a lease to come back.
        if reads and passed then return 'dying' end
        return 'held', session_text(now + lease, '+' .. here, 0, lease, pid)
    end
    if not passed and run ~= here then return 'held' end
    -- Missed, or not heard of for a lease: that may be because this server stood still, so it is given `grace`, too.
    if dead == 0 or dead > now then return 'dying', session_text(deadline, run, now, lease, pid) end
    return dead + grace <= now and 'gone' or 'dying'
end

-- The text of a session that lasts for a lease from now, and for no less than it does: another handle of the process
-- may have a longer one. Reads only.
local function lasting(text, now, lease, run, pid)
    local here = this_run()
    if run ~= here then run = '+' .. here end
    local till = now + lease
    local deadline, before, longer = string.match(text or '', '^(%d+) (%S+) %d+ (%d+) ')
    deadline, longer = tonumber(deadline), tonumber(longer)
    if (before == here or before == '+' .. here) and deadline > till and math.max(deadline - now, longer) <= LONGEST then
        till, lease = deadline, longer
    end
    return session_text(till, run, 0, lease, pid)
end

-- The new text of the caller's own session. nil: it lasts for half a lease yet. Reads only.
local function session(process, now, lease, run, pid)
    local text = redis.call('HGET', session_key(), process)
    local deadline, before = string.match(text or '', '^(%d+) (%S+) 0 %d+ %d+$')
    deadline = tonumber(deadline)
    local same = before == run or (run == '-' and string.byte(before or '') == 43)
    if same and deadline > now + lease / 2 and deadline <= now + LONGEST then return nil end
    return lasting(text, now, lease, run, pid)
end

-- Up to two sessions, drawn by chance, that ended a day ago: a missing one has no time to come back. Reads only.
local function ended_sessions(now)
    local found = {}
    local some = redis.call('HRANDFIELD', session_key(), 2, 'WITHVALUES')
    for at = 1, #some, 2 do
        local deadline = tonumber(string.match(some[at + 1], '^(%d+) ') or 0)
        if deadline + 86400000000 < now or deadline > now + LONGEST then found[#found + 1] = some[at] end
    end
    if found[1] then may('HDEL', session_key(), found[1]) end
    return found
end
