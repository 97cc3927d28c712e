-- Reads variables by the server's clock.
--
-- KEYS  P, D v, D x
-- ARGV  1 id  2 what: get, and the fields after it; len; keys; facts
-- returns "g", or
--   get    {now, record or nothing, ...}
--   len    the number of variables that have not expired
--   keys   their fields; where there are more than 10,000 the number of all
--   facts  {seq, used, size, created, len}
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'g' end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[2] == 'get' then
    local found = {now}
    for first = 3, #ARGV, 5000 do
        local records = redis.call('HMGET', KEYS[2], unpack(ARGV, first, math.min(first + 4999, #ARGV)))
        for _, record in ipairs(records) do
            if record and string.byte(record) < 97 and struct.unpack('>I8', record, 10) <= now then record = false end
            found[#found + 1] = record
        end
    end
    return found
end
if ARGV[2] == 'keys' then
    local count = redis.call('HLEN', KEYS[2])
    if count > 10000 then return count end
    local dead, names = {}, {}
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do dead[name] = true end
    for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
        if not dead[name] then names[#names + 1] = name end
    end
    return names
end
-- The list of deadlines has more where the server has evicted variables, or somebody has changed it.
local count = math.max(redis.call('HLEN', KEYS[2]) - redis.call('ZCOUNT', KEYS[3], '-inf', now), 0)
if ARGV[2] == 'len' then return count end
local facts = redis.call('HMGET', KEYS[1], 'seq', 'used', 'size', 'at')
facts[5] = count
return facts
