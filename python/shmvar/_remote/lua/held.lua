-- Says which locks are held, and whether one of them is.
--
-- KEYS  P, D v
-- ARGV  1 id  2 grace in us  3 field of a lock; missing: all of them
-- returns "g"; of one lock "" nobody has it, "h<record>" held, "d<record>" its owner is missed; of all: name, pid, ... of
--       those whose owners are there, or have their lease to come back
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'g' end
local time = redis.call('TIME')
local now, grace = time[1] * 1000000 + time[2], tonumber(ARGV[2])
local locks, states, found = string.sub(KEYS[2], 1, -2) .. 'l', {}, {}
local all = ARGV[3] and {ARGV[3], redis.call('HGET', locks, ARGV[3]) or ''} or redis.call('HGETALL', locks)
for at = 1, #all, 2 do
    local owner = string.match(all[at + 1], '^(%w+)%.%d+ %d+$')
    if owner and not states[owner] then states[owner] = owner_state(owner, now, grace, true) end
    local state = owner and states[owner] or 'gone'
    if ARGV[3] then return state == 'gone' and '' or string.sub(state, 1, 1) .. all[at + 1] end
    if state == 'held' then
        found[#found + 1] = all[at]
        found[#found + 1] = string.match(redis.call('HGET', session_key(), owner), '(%d+)$')
    end
end
return found
