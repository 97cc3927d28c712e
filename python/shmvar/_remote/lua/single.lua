-- A change of one variable. Everything is decided, rights included, before the first write. The two expired variables
-- that each change removes are no part of it.
--
-- KEYS  P (the segment), D v (the variables), D x (deadlines), D b (blobs)
-- ARGV  1 id  2 field of the client's slot in P  3 number of the request  4 field of the variable
--       5 operation: put, add, del, ver (a new version only), exp (a new deadline only)
--       6 kind  7 payload (of add: the amount)  8 ttl: "" none, "keep", or microseconds
--       9 version that the variable must have, 0: missing; "": any
-- returns one of
--       "g" the segment is gone      "l" a later request of this slot was here
--       "n" another version, or nothing there      "s" this needs Python (add)
--       "f<needed> <free> <size>" full             "a" all fits, but a chunk of the blob is missing
--       "o" done; after it the new version (put, del, ver), that of the segment (exp), or kind, sum, a blank, version (add)
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
local before = answered(head)
if before then return before end
local now = now_of(redis.call('TIME'))
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), tonumber(head[4]), tonumber(head[5])
local version = math.max(seq + 1, now)

-- What is there. A record is kind (1), version (8), with a ttl the deadline (8), payload.
local field, op = ARGV[4], ARGV[5]
local text = string.byte(field) == 115 and #field - 1 or 0
local old = redis.call('HGET', KEYS[2], field)
local live, seen, charge, at, kind, deadline, blob = false, 0, 0, 10, nil, nil, nil
if old then
    charge, kind, at, seen, deadline, blob = taken_apart(field, old)
    -- One that is cut short can be replaced and removed, and has no version that anybody could name.
    live = not deadline or deadline > now
    if not live then seen = 0 elseif not kind then seen = -1 end
    if not kind and op ~= 'put' and op ~= 'del' then damaged('the record of the variable is cut short') end
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
    answer = done and string.format('o%s%s %.0f', new_kind, payload, version) or answer
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
    end
end
if done and op ~= 'add' then answer = string.format('o%.0f', op == 'exp' and seq or version) end

-- What has expired: two variables each time, and as many as one script may where there is no room.
local none, rare = {}, nil
if ttls > 0 or blob or new_blob or ARGV[3] == '1' then rare = rarely() end
local dead, freed, dead_blobs, dead_counts, counts, dropped, idle = none, 0, none, none, none, none, none
if ttls > 0 then
    local most = done and used - charge + cost > size and 5000 or 2
    dead, freed, dead_blobs = rare.expired(now, most, {[field] = true})
    ttls, used = ttls - #dead, used - freed
end
if done and used - charge + cost > size and cost > charge then
    answer = string.format('f%.0f %.0f %.0f', cost, math.max(size - used + charge, 0), size)
    done = false
end
if done and new_blob and new_blob ~= blob then
    for number = 0, chunks - 1 do
        if redis.call('EXISTS', rare.chunk_name(new_blob, number)) == 0 then
            answer, done = 'a', false
            break
        end
    end
end

-- The rights to what follows, and the types of the keys. The first write of all needs none: if it fails, nothing is done.
if dead[1] then dead_counts = rare.may_forget(dead, dead_blobs) end
if ARGV[3] == '1' then idle = rare.idle_slots(now, 4) end
local stays = done and new_blob and new_blob ~= blob
local channel, every, shown = nil, nil, nil
if done then
    if blob and blob ~= new_blob then
        dropped = {blob}
        counts = rare.may_drop(dropped)
    end
    if stays then
        redis.call('HLEN', KEYS[4])
        may('PERSIST', rare.chunk_name(new_blob, 0))
        may('HSET', KEYS[4], new_blob, chunks)
    end
    if record then may('HSET', KEYS[2], field, record) else may('HDEL', KEYS[2], field) end
    if ends or deadline then
        redis.call('ZCARD', KEYS[3])
        if ends then may('ZADD', KEYS[3], ends, field) else may('ZREM', KEYS[3], field) end
        ttls = ttls + (ends and 1 or 0) - (deadline and 1 or 0)
    end
    used = used - charge + cost
    -- What listeners are told: the version, "-" before it of a removal, "~" where only the deadline is another one.
    shown = (op == 'exp' and '~' or record and '' or '-') .. string.format('%.0f', version)
    if op ~= 'exp' then seq = version end
    local prefix = string.sub(KEYS[2], 1, -2)
    channel, every = prefix .. 'c:' .. field, prefix .. 'w'
    may('SPUBLISH', channel, shown)
    may('SPUBLISH', every, shown)
end

-- Also where nothing has changed: a late copy of this request must not be carried out after its answer.
redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
if idle[1] then rare.drop_slots(idle) end
if dead[1] then rare.forget(dead, dead_blobs, dead_counts) end
if done then
    if dropped[1] then rare.drop(dropped, counts) end
    if stays then
        for number = 0, chunks - 1 do redis.call('PERSIST', rare.chunk_name(new_blob, number)) end
        redis.call('HSET', KEYS[4], new_blob, chunks)
    end
    if record then redis.call('HSET', KEYS[2], field, record) else redis.call('HDEL', KEYS[2], field) end
    if ends then
        redis.call('ZADD', KEYS[3], ends, field)
    elseif deadline then
        redis.call('ZREM', KEYS[3], field)
    end
    if shown then
        if ends then shown = string.format('%s@%.0f', shown, ends) end
        redis.call('SPUBLISH', channel, shown)
        redis.call('SPUBLISH', every, shown .. ' ' .. field)
    end
end
return answer
