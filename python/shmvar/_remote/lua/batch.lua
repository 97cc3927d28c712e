-- Stores many variables at one instant, or none of them. The caller sends each index once.
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id  2 field of the slot  3 number  4 ttl: "" or microseconds; then for each variable: field, kind, payload
-- returns "g", "l", "a", "f...", "o": see single.lua
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
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), tonumber(head[4]), tonumber(head[5])
local version = math.max(seq + 1, now)
local prefix, answer = string.sub(KEYS[2], 1, -2), 'o'
local ends = ARGV[4] ~= '' and now + tonumber(ARGV[4]) or nil
if ends and ends > 9007199254740992 then ends = nil end
local mark = struct.pack('>I8', version) .. (ends and struct.pack('>I8', ends) or '')

-- What is there, in portions that fit Lua's stack, and what all of it will be charged.
local pairs_new, freed, had, cost, charge = {}, {}, {}, 0, 0
for first = 5, #ARGV, 1500 do
    local last = math.min(first + 1499, #ARGV)
    local names = {}
    for at = first, last, 3 do names[#names + 1] = ARGV[at] end
    local olds = redis.call('HMGET', KEYS[2], unpack(names))
    for number, name in ipairs(names) do
        local at = first + (number - 1) * 3
        local text = string.byte(name) == 115 and #name - 1 or 0
        local kind, payload = ARGV[at + 1], ARGV[at + 2]
        local record = (ends and string.upper(kind) or kind) .. mark .. payload
        pairs_new[#pairs_new + 1] = name
        pairs_new[#pairs_new + 1] = record
        cost = cost + 32 + text + #record
        if kind == 'b' then
            cost = cost + struct.unpack('>I8', payload, 14)
            for chunk = 0, struct.unpack('>I4', payload, 10) - 1 do
                local there = redis.call('EXISTS', prefix .. 'b:' .. string.sub(payload, 2, 9) .. ':' .. chunk)
                if there == 0 then answer = 'a' end
            end
        end
        local old = olds[number]
        if old then
            charge = charge + 32 + text + #old
            local code = string.byte(old)
            local begins = code < 97 and 18 or 10
            if code < 97 then had[#had + 1] = name end
            if code == 98 or code == 66 then
                charge = charge + struct.unpack('>I8', old, begins + 13)
                freed[#freed + 1] = string.sub(old, begins + 1, begins + 8)
            end
        end
    end
end

if answer == 'o' and ttls > 0 and used - charge + cost > size then
    local mine = {}
    for at = 1, #pairs_new, 2 do mine[pairs_new[at]] = true end
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 5000)) do
        local dead = not mine[name] and redis.call('HGET', KEYS[2], name)
        if dead then
            redis.call('ZREM', KEYS[3], name)
            redis.call('HDEL', KEYS[2], name)
            ttls = ttls - 1
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
    end
end
if answer == 'o' and used - charge + cost > size and cost > charge then
    answer = string.format('f%.0f %.0f %.0f', cost, math.max(size - used + charge, 0), size)
end
if answer == 'o' then
    used, seq = used - charge + cost, version
    for first = 1, #pairs_new, 1000 do
        redis.call('HSET', KEYS[2], unpack(pairs_new, first, math.min(first + 999, #pairs_new)))
    end
    for _, id in ipairs(freed) do
        for chunk = 0, (tonumber(redis.call('HGET', KEYS[4], id)) or 0) - 1 do
            redis.call('UNLINK', prefix .. 'b:' .. id .. ':' .. chunk)
        end
        redis.call('HDEL', KEYS[4], id)
    end
    for at = 5, #ARGV, 3 do
        if ARGV[at + 1] == 'b' then
            local id, count = string.sub(ARGV[at + 2], 2, 9), struct.unpack('>I4', ARGV[at + 2], 10)
            for chunk = 0, count - 1 do redis.call('PERSIST', prefix .. 'b:' .. id .. ':' .. chunk) end
            redis.call('HSET', KEYS[4], id, count)
        end
    end
    if ends then
        for at = 5, #ARGV, 3 do redis.call('ZADD', KEYS[3], ends, ARGV[at]) end
        ttls = ttls + (#ARGV - 4) / 3 - #had
    else
        for _, name in ipairs(had) do redis.call('ZREM', KEYS[3], name) end
        ttls = ttls - #had
    end
    redis.call('SPUBLISH', prefix .. '*', string.format('many %.0f', version))
    redis.call('SPUBLISH', prefix .. 'w', string.format('%.0f *', version))
end
redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
return answer
