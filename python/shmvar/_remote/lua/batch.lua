-- Stores many variables at one instant, or none of them. The caller sends each index once.
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id  2 field of the slot  3 number  4 ttl: "" or microseconds; then for each variable: field, kind, payload
-- returns "g", "l", "a", "f...", "o": see single.lua
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
local before = answered(head)
if before then return before end
local now = now_of(redis.call('TIME'))
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), tonumber(head[4]), tonumber(head[5])
local version = math.max(seq + 1, now)
local prefix, answer = string.sub(KEYS[2], 1, -2), 'o'
local ends = ARGV[4] ~= '' and now + tonumber(ARGV[4]) or nil
if ends and ends > 9007199254740992 then ends = nil end
local mark = struct.pack('>I8', version) .. (ends and struct.pack('>I8', ends) or '')

-- What is there, in portions that fit Lua's stack, and what all of it will be charged.
local pairs_new, dropped, had, cost, charge, large = {}, {}, {}, 0, 0, {}
for first = 5, #ARGV, 1500 do
    local last = math.min(first + 1499, #ARGV)
    local names = {}
    for at = first, last, 3 do names[#names + 1] = ARGV[at] end
    local olds = redis.call('HMGET', KEYS[2], unpack(names))
    for number, name in ipairs(names) do
        local at = first + (number - 1) * 3
        local kind, payload = ARGV[at + 1], ARGV[at + 2]
        local record = (ends and string.upper(kind) or kind) .. mark .. payload
        pairs_new[#pairs_new + 1] = name
        pairs_new[#pairs_new + 1] = record
        local text = string.byte(name) == 115 and #name - 1 or 0
        cost = cost + 32 + text + #record
        if kind == 'b' then
            cost = cost + struct.unpack('>I8', payload, 14)
            large[#large + 1] = {string.sub(payload, 2, 9), struct.unpack('>I4', payload, 10)}
        end
        local old = olds[number]
        local code = old and (string.byte(old) or 0)
        if code and code > 98 then
            -- Neither a deadline nor a blob.
            charge = charge + 32 + text + #old
        elseif code then
            local one, _, _, _, deadline, blob = taken_apart(name, old)
            charge = charge + one
            if deadline then had[#had + 1] = name end
            if blob then dropped[#dropped + 1] = blob end
        end
    end
end

local dead, freed, dead_blobs, rare = {}, 0, {}, nil
if ttls > 0 or dropped[1] or large[1] or ARGV[3] == '1' then rare = rarely() end
if ttls > 0 and used - charge + cost > size then
    local mine = {}
    for at = 1, #pairs_new, 2 do mine[pairs_new[at]] = true end
    dead, freed, dead_blobs = rare.expired(now, 5000, mine)
    ttls, used = ttls - #dead, used - freed
end
if used - charge + cost > size and cost > charge then
    answer = string.format('f%.0f %.0f %.0f', cost, math.max(size - used + charge, 0), size)
end
for _, blob in ipairs(large) do
    for number = 0, answer == 'o' and blob[2] - 1 or -1 do
        if redis.call('EXISTS', rare.chunk_name(blob[1], number)) == 0 then
            answer = 'a'
            break
        end
    end
end

-- The rights to what follows, and the types of the keys: see single.lua.
local dead_counts, counts = {}, {}
if dead[1] then dead_counts = rare.may_forget(dead, dead_blobs) end
local idle = ARGV[3] == '1' and rare.idle_slots(now, 4) or {}
if answer == 'o' then
    if dropped[1] then counts = rare.may_drop(dropped) end
    may('HSET', KEYS[2], 'i0', '')
    if large[1] then
        redis.call('HLEN', KEYS[4])
        may('PERSIST', rare.chunk_name(large[1][1], 0))
        may('HSET', KEYS[4], large[1][1], large[1][2])
    end
    if ends or had[1] then
        redis.call('ZCARD', KEYS[3])
        if ends then may('ZADD', KEYS[3], ends, 'i0') else may('ZREM', KEYS[3], had[1]) end
        ttls = ttls + (ends and (#ARGV - 4) / 3 or 0) - #had
    end
    may('SPUBLISH', prefix .. '*', '')
    may('SPUBLISH', prefix .. 'w', '')
    used, seq = used - charge + cost, version
end

redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
if idle[1] then rare.drop_slots(idle) end
if dead[1] then rare.forget(dead, dead_blobs, dead_counts) end
if answer == 'o' then
    for first = 1, #pairs_new, 1000 do
        redis.call('HSET', KEYS[2], unpack(pairs_new, first, math.min(first + 999, #pairs_new)))
    end
    if dropped[1] then rare.drop(dropped, counts) end
    for _, blob in ipairs(large) do
        for number = 0, blob[2] - 1 do redis.call('PERSIST', rare.chunk_name(blob[1], number)) end
        redis.call('HSET', KEYS[4], blob[1], blob[2])
    end
    if ends then
        for at = 5, #ARGV, 3 do redis.call('ZADD', KEYS[3], ends, ARGV[at]) end
    else
        for _, name in ipairs(had) do redis.call('ZREM', KEYS[3], name) end
    end
    redis.call('SPUBLISH', prefix .. '*', string.format('many %.0f', version))
    redis.call('SPUBLISH', prefix .. 'w', string.format('%.0f *', version))
end
return answer
