-- Takes a named lock, lets it go, or undoes a taking that nobody knows the end of. docs/remote.md, "Locks".
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id  2 field of the slot  3 number  4 operation: take, free, undo  5 field of the lock  6 token
--       of take  7 lease and 8 grace in us  9 run  10 pid: the caller's session
--       of undo, 2 and 3 are those of the taking, and it may be repeated as it is
-- returns "g", "l": see single.lua
--       take  "o<fence>"; not recorded, and the caller bars its number: "h" held, "d" its owner is dying, "m<limit>" too
--             many locks are held
--       free  "o", "x<field>" another has it, or nobody
--       undo  "o"
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
local op = ARGV[4]
if op ~= 'undo' then
    local before = answered(head)
    if before then return before end
elseif head[1] ~= ARGV[1] then
    return 'g'
end
local now = now_of(redis.call('TIME'))
local prefix, field, token = string.sub(KEYS[2], 1, -2), ARGV[5], ARGV[6]
local locks = prefix .. 'l'
local record = redis.call('HGET', locks, field)

if op ~= 'take' then
    local mine = record and string.sub(record, 1, #token + 1) == token .. ' '
    if mine then
        may('HDEL', locks, field)
        may('SPUBLISH', prefix .. 'f:' .. field, '')
    end
    local answer = (mine or op == 'undo') and 'o' or 'x' .. field
    local number = tonumber(string.match(head[6] or '', '^(%d+) ') or 0)
    -- Of undo: a copy of the taking that is still on its way finds a later answer than its own, or this one.
    if number < tonumber(ARGV[3]) then
        redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
    end
    if mine then
        redis.call('HDEL', locks, field)
        redis.call('SPUBLISH', prefix .. 'f:' .. field, '')
    end
    return answer
end

local lease, grace, run, pid = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]
local process = string.match(token, '^(%w+)%.')
local sessions, marks, states, gone = session_key(), {}, {}, {}

-- What becomes of a lock with this record. The marks of owners that are missed for the first time are collected.
local function state_of(name, text)
    local owner = string.match(text, '^(%w+)%.%d+ %d+$')
    if not owner then
        if name == field then damaged('the record of the lock ' .. string.sub(name, 2)) end
        return 'held'
    end
    -- A thread of the owner's own process is itself the proof that it lives.
    if owner == process then return 'held' end
    if not states[owner] then
        local state, mark = owner_state(owner, now, grace)
        states[owner] = state
        if mark then marks[#marks + 1], marks[#marks + 2] = owner, mark end
    end
    return states[owner]
end

local answer
if record then
    local state = state_of(field, record)
    answer = state == 'held' and 'h' or state == 'dying' and 'd' or nil
else
    local limit = math.max(math.floor(tonumber(head[4]) / 1024), 1024)
    if redis.call('HLEN', locks) >= limit then
        -- What the dead hold counts for nothing.
        local some, dying = redis.call('HRANDFIELD', locks, 2000, 'WITHVALUES'), false
        for at = 1, #some, 2 do
            local state = state_of(some[at], some[at + 1])
            if state == 'gone' then gone[#gone + 1] = some[at] end
            dying = dying or state == 'dying'
        end
        if not gone[1] then answer = dying and 'd' or string.format('m%.0f', limit) end
    end
end
if answer then
    if marks[1] then redis.call('HSET', sessions, unpack(marks)) end
    return answer
end

local fence = string.format('%.0f', math.max(tonumber(head[2]) + 1, now))
local text, ended, idle = session(process, now, lease, run, pid), {}, {}
if text then
    marks[#marks + 1], marks[#marks + 2] = process, text
    ended = ended_sessions(now)
end
if ARGV[3] == '1' then idle = rarely().idle_slots(now, 4) end
may('HSET', locks, field, token)
may('SPUBLISH', prefix .. 'w', '')
if marks[1] then may('HSET', sessions, process, '') end
if gone[1] then may('HDEL', locks, gone[1]) end
answer = 'o' .. fence
redis.call('HSET', KEYS[1], 'seq', fence, ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
if idle[1] then rarely().drop_slots(idle) end
for _, name in ipairs(gone) do redis.call('HDEL', locks, name) end
for _, name in ipairs(ended) do redis.call('HDEL', sessions, name) end
if marks[1] then redis.call('HSET', sessions, unpack(marks)) end
redis.call('HSET', locks, field, token .. ' ' .. fence)
-- Who is told of all changes need not look for what had this version.
redis.call('SPUBLISH', prefix .. 'w', '=' .. fence)
return answer
