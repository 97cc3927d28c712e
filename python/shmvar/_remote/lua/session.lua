-- Renews the session of a process, and says which of its locks are another's.
--
-- KEYS  P, D v
-- ARGV  1 id  2 process  3 lease in us  4 run  5 pid; then for each lock field and token
-- returns "g", or `run` of this server, and then the tokens of the locks that are no longer the caller's
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'g' end
local now = now_of(redis.call('TIME'))
local locks, lost = string.sub(KEYS[2], 1, -2) .. 'l', {this_run()}
for first = 6, #ARGV, 2000 do
    local last, names = math.min(first + 1999, #ARGV), {}
    for at = first, last, 2 do names[#names + 1] = ARGV[at] end
    for number, record in ipairs(redis.call('HMGET', locks, unpack(names))) do
        local token = ARGV[first + number * 2 - 1]
        if not record or string.sub(record, 1, #token + 1) ~= token .. ' ' then lost[#lost + 1] = token end
    end
end
local ended = ended_sessions(now)
local text = redis.call('HGET', session_key(), ARGV[2])
redis.call('HSET', session_key(), ARGV[2], lasting(text, now, tonumber(ARGV[3]), ARGV[4], ARGV[5]))
for _, name in ipairs(ended) do
    if name ~= ARGV[2] then redis.call('HDEL', session_key(), name) end
end
return lost
