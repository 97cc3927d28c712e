-- A change of the segment as a whole: clear it, change its limit, or count an answered request only.
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id  2 field of the slot  3 number  4 operation: clear, size, fence, trim  5 the new size
-- returns "g", "l", "f...", "o": see single.lua
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
if head[1] ~= ARGV[1] then return 'g' end
if head[6] then
    local number, answer = string.match(head[6], '^(%d+) %d+ (.*)$')
    if number == ARGV[3] then
        redis.call('HSET', KEYS[1], 'seq', head[2])
        return answer
    end
    if tonumber(number) > tonumber(ARGV[3]) then return 'l' end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), head[4], tonumber(head[5])
local prefix, answer = string.sub(KEYS[2], 1, -2), 'o'
if ARGV[4] == 'clear' then
    local blobs = redis.call('HGETALL', KEYS[4])
    for at = 1, #blobs, 2 do
        for chunk = 0, tonumber(blobs[at + 1]) - 1 do
            redis.call('UNLINK', prefix .. 'b:' .. blobs[at] .. ':' .. chunk)
        end
    end
    redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
    seq, used, ttls = math.max(seq + 1, now), 0, 0
    redis.call('SPUBLISH', prefix .. '*', string.format('clear %.0f', seq))
    redis.call('SPUBLISH', prefix .. 'w', string.format('%.0f *', seq))
elseif ARGV[4] == 'size' then
    if tonumber(ARGV[5]) < used then
        answer = string.format('f%.0f 0 %s', used, ARGV[5])
    else
        size = ARGV[5]
    end
elseif ARGV[4] == 'trim' then
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 5000)) do
        local dead = redis.call('HGET', KEYS[2], name)
        redis.call('HDEL', KEYS[2], name)
        redis.call('ZREM', KEYS[3], name)
        ttls = ttls - 1
        if dead then
            used = used - 32 - #dead - (string.byte(name) == 115 and #name - 1 or 0)
            if string.byte(dead) == 66 then
                used = used - struct.unpack('>I8', dead, 31)
                local id = string.sub(dead, 19, 26)
                for chunk = 0, (tonumber(redis.call('HGET', KEYS[4], id)) or 0) - 1 do
                    redis.call('UNLINK', prefix .. 'b:' .. id .. ':' .. chunk)
                end
                redis.call('HDEL', KEYS[4], id)
            end
        end
        answer = 'more'
    end
elseif ARGV[4] == 'fence' then
    answer = 'n'
end
redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'size', size, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
return answer
