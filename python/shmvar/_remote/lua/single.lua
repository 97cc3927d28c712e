-- A change of one variable. Everything is decided before the first write of the change; the two expired variables that
-- each change removes are no part of it.
--
-- KEYS  P (the segment), D v (the variables), D x (deadlines), D b (blobs)
-- ARGV  1 id  2 field of the client's slot in P  3 number of the request  4 field of the variable
--       5 operation: put, add, del, ver (a new version only), exp (a new deadline only)
--       6 kind  7 payload (of add: the amount)  8 ttl: "" none, "keep", or microseconds
--       9 version that the variable must have, 0: missing; "": any
-- returns one of
--       "g" the segment is gone      "l" a later request of this slot was here
--       "n" another version, or nothing there      "s" this needs Python (add)
--       "a" a chunk of the blob is missing         "f<needed> <free> <size>" full
--       "o" done; after it the sum (add, with its kind before it) or the version (ver)
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
if head[1] ~= ARGV[1] then return 'g' end
if head[6] then
    local number, answer = string.match(head[6], '^(%d+) %d+ (.*)$')
    if number == ARGV[3] then
        -- A repetition. WAIT says yes at once on a connection that wrote nothing, so something is written.
        redis.call('HSET', KEYS[1], 'seq', head[2])
        return answer
    end
    if tonumber(number) > tonumber(ARGV[3]) then return 'l' end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), tonumber(head[4]), tonumber(head[5])
local version = math.max(seq + 1, now)

-- What is there. A record is kind (1), version (8), with a ttl the deadline (8), payload.
local field, op = ARGV[4], ARGV[5]
local text = string.byte(field) == 115 and #field - 1 or 0
local old = redis.call('HGET', KEYS[2], field)
local live, seen, charge, at, kind, deadline, blob = false, 0, 0, 10, nil, nil, nil
if old then
    kind = string.sub(old, 1, 1)
    if string.byte(kind) < 97 then
        deadline, at, kind = struct.unpack('>I8', old, 10), 18, string.lower(kind)
    end
    live = not deadline or deadline > now
    if live then seen = struct.unpack('>I8', old, 2) end
    charge = 32 + text + #old
    if kind == 'b' then
        blob = string.sub(old, at + 1, at + 8)
        charge = charge + struct.unpack('>I8', old, at + 13)
    end
end

-- What shall be there: a record, or nothing; `done` is false where nothing changes.
local answer, done, record, cost, ends, new_blob, chunks = 'o', true, nil, 0, nil, nil, 0
local new_kind, payload, keep = ARGV[6], ARGV[7], ARGV[8] == 'keep'
if ARGV[9] ~= '' and tonumber(ARGV[9]) ~= seen then
    answer, done = 'n', false
elseif op == 'del' then
    if not live then answer, done = 'n', false end
elseif op == 'ver' or op == 'exp' then
    new_kind, payload = kind, live and string.sub(old, at)
    if not live then answer, done = 'n', false end
    if op == 'exp' then version = seen end
elseif op == 'add' then
    keep = keep or live
    if not live then
        -- 0 + a float is that float, and Python's 0 + -0.0 is 0.0.
        payload = new_kind == 'f' and payload == '-0.0' and '0.0' or payload
    elseif kind ~= 'i' and kind ~= 'f' then
        answer, done = 's', false
    else
        local before = string.sub(old, at)
        local sum = tonumber(before) + tonumber(payload)
        if kind == 'i' and new_kind == 'i' then
            -- Doubles are exact so far. Longer ints are added in Python.
            if #before > 16 or #payload > 16 or math.abs(sum) > 1e15 then answer, done = 's', false end
            payload = string.format('%.0f', sum)
        else
            -- An int that no float can hold is Python's error.
            local int = kind == 'i' and before or new_kind == 'i' and payload
            if int and #int > 300 then answer, done = 's', false end
            new_kind, payload = 'f', string.format('%.17g', sum)
        end
    end
    answer = done and 'o' .. new_kind .. payload or answer
end
if done and op ~= 'del' then
    if keep then
        ends = live and deadline or nil
    elseif ARGV[8] ~= '' then
        ends = now + tonumber(ARGV[8])
        -- What ends after the year 2255 stays.
        if ends > 9007199254740992 then ends = nil end
    end
    if ends then
        record = string.upper(new_kind) .. struct.pack('>I8I8', version, ends) .. payload
    else
        record = new_kind .. struct.pack('>I8', version) .. payload
    end
    cost = 32 + text + #record
    if new_kind == 'b' then
        new_blob = string.sub(payload, 2, 9)
        chunks = struct.unpack('>I4', payload, 10)
        cost = cost + struct.unpack('>I8', payload, 14)
        if new_blob ~= blob then
            for number = 0, chunks - 1 do
                if redis.call('EXISTS', string.sub(KEYS[2], 1, -2) .. 'b:' .. new_blob .. ':' .. number) == 0 then
                    answer, done = 'a', false
                    break
                end
            end
        end
    end
end

-- Removes what has expired: two variables each time, and as many as need be where there is no room.
if ttls > 0 then
    local most = done and used - charge + cost > size and 5000 or 2
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, most)) do
        if name ~= field then
            local dead = redis.call('HGET', KEYS[2], name)
            redis.call('ZREM', KEYS[3], name)
            redis.call('HDEL', KEYS[2], name)
            ttls = ttls - 1
            if dead then
                used = used - 32 - #dead - (string.byte(name) == 115 and #name - 1 or 0)
                if string.byte(dead) == 66 then
                    used = used - struct.unpack('>I8', dead, 31)
                    local id, count = string.sub(dead, 19, 26), redis.call('HGET', KEYS[4], string.sub(dead, 19, 26))
                    for number = 0, (tonumber(count) or 0) - 1 do
                        redis.call('UNLINK', string.sub(KEYS[2], 1, -2) .. 'b:' .. id .. ':' .. number)
                    end
                    redis.call('HDEL', KEYS[4], id)
                end
            end
        end
    end
end
if done and used - charge + cost > size and cost > charge then
    answer = string.format('f%.0f %.0f %.0f', cost, math.max(size - used + charge, 0), size)
    done = false
end

if done then
    used = used - charge + cost
    if blob and blob ~= new_blob then
        local count = tonumber(redis.call('HGET', KEYS[4], blob)) or 0
        for number = 0, count - 1 do
            redis.call('UNLINK', string.sub(KEYS[2], 1, -2) .. 'b:' .. blob .. ':' .. number)
        end
        redis.call('HDEL', KEYS[4], blob)
    end
    if new_blob and new_blob ~= blob then
        for number = 0, chunks - 1 do
            redis.call('PERSIST', string.sub(KEYS[2], 1, -2) .. 'b:' .. new_blob .. ':' .. number)
        end
        redis.call('HSET', KEYS[4], new_blob, chunks)
    end
    if record then redis.call('HSET', KEYS[2], field, record) else redis.call('HDEL', KEYS[2], field) end
    if ends then
        redis.call('ZADD', KEYS[3], ends, field)
        if not deadline then ttls = ttls + 1 end
    elseif deadline then
        redis.call('ZREM', KEYS[3], field)
        ttls = ttls - 1
    end
    if op == 'ver' then answer = string.format('o%.0f', version) end
    if op == 'exp' then
        version = seq
    else
        seq = version
        local shown = string.format('%.0f', record and version or 0)
        redis.call('SPUBLISH', string.sub(KEYS[2], 1, -2) .. 'c:' .. field, shown)
        redis.call('SPUBLISH', string.sub(KEYS[2], 1, -2) .. 'w', shown .. ' ' .. field)
    end
end
-- Also where nothing has changed: a late copy of this request must not be carried out after its answer.
redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
return answer
