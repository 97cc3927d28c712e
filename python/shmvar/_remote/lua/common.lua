-- What the scripts share. It stands before the text of each script that asks for it.
--
-- A script that fails after its first write has done a part of its work, and nobody repeats or undoes the rest. So each
-- one reads and decides first, then asks for every right that it needs, and only then writes; the slot is written first.
-- KEYS of all of these scripts begin with P (the segment), D v (the variables), D x (deadlines), D b (blobs).

-- Raises where this user may not run a command.
local function may(command, key, ...)
    if not redis.acl_check_cmd(command, key, ...) then
        error({err = 'NOPERM no right to ' .. command .. ' on ' .. key .. '; nothing was changed;'})
    end
end

local function damaged(what)
    error({err = 'DAMAGED ' .. what .. '; nothing was changed;'})
end

local function now_of(time) return time[1] * 1000000 + time[2] end

-- A record: what it is charged, kind (nil: it is cut short), where its payload begins, version, deadline, id of its blob.
local function taken_apart(name, record)
    local charge = 32 + #record + (string.byte(name) == 115 and #name - 1 or 0)
    local code = string.byte(record) or 0
    local at = code < 97 and 18 or 10
    if #record < at - 1 then return charge end
    local kind, blob, deadline = string.lower(string.char(code)), nil, nil
    if code < 97 then deadline = struct.unpack('>I8', record, 10) end
    if kind == 'b' and #record >= at + 20 then
        blob = string.sub(record, at + 1, at + 8)
        charge = charge + struct.unpack('>I8', record, at + 13)
    end
    return charge, kind, at, struct.unpack('>I8', record, 2), deadline, blob
end

-- A request of a slot: its answer if it was here before, "g" where the segment is gone, "l" after a later request,
-- "x<field>" where a lock that the caller holds is no longer its own.
-- `head` is id, seq, used, size, x and the slot; ARGV begins with id, field of the slot, number. A caller that holds locks
-- puts a + before the id, and the locks behind all else: this takes them off.
local function answered(head)
    -- No key has this name. Where the slot is on its way to another node of a cluster, a key that is missing raises, and
    -- the client comes again: a list that becomes empty between two writes would be missing, too, in the middle.
    redis.call('EXISTS', string.sub(KEYS[2], 1, -2) .. '-')
    local lost
    if string.byte(ARGV[1]) == 43 then
        ARGV[1] = string.sub(ARGV[1], 2)
        -- The locks are taken off the end of ARGV: the field and the token of each, and their count.
        local names, tokens = {}, {}
        for number = 1, tonumber(table.remove(ARGV)) do
            tokens[number] = table.remove(ARGV) .. ' '
            names[number] = table.remove(ARGV)
        end
        for first = 1, #names, 1000 do
            local last = math.min(first + 999, #names)
            local found = redis.call('HMGET', string.sub(KEYS[2], 1, -2) .. 'l', unpack(names, first, last))
            for number, record in ipairs(found) do
                local token = tokens[first + number - 1]
                if not record or string.sub(record, 1, #token) ~= token then
                    lost = lost or names[first + number - 1]
                end
            end
        end
    end
    if head[1] ~= ARGV[1] then return 'g' end
    if head[6] then
        local number, answer = string.match(head[6], '^(%d+) %d+ (.*)$')
        if number == ARGV[3] then
            -- A repetition. WAIT says yes at once on a connection that wrote nothing, so something is written.
            redis.call('HSET', KEYS[1], 'seq', head[2])
            return answer
        end
        if number and tonumber(number) > tonumber(ARGV[3]) then return 'l' end
    end
    for at = 2, 5 do
        local number = tonumber(head[at])
        -- Beyond 2^53 Lua does not count exactly, and 1e400 is a number, too.
        if not number or not (math.abs(number) <= 9007199254740992) then damaged('a number of the segment is none') end
    end
    if lost then
        local answer = 'x' .. lost
        redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. string.format(' %.0f ', now_of(redis.call('TIME'))) .. answer)
        return answer
    end
end

-- What few calls need: large values, what has expired, slots of clients that are gone. A script makes each of its
-- functions anew in each call, so these are made only where one of them is needed.
local function rarely()
    local it = {}

    -- The name of a chunk. KEYS[2] without its last letter is D.
    function it.chunk_name(id, number) return string.sub(KEYS[2], 1, -2) .. 'b:' .. id .. ':' .. number end

    -- How many chunks a blob has. Reads only.
    function it.count_of(id) return tonumber(redis.call('HGET', KEYS[4], id)) or 0 end

    -- Removes the chunks of a blob. 256 that are missing in a row end it: a count may be anything.
    function it.drop_chunks(id, count)
        local missing = 0
        for number = 0, count - 1 do
            missing = redis.call('UNLINK', it.chunk_name(id, number)) == 1 and 0 or missing + 1
            if missing == 256 then return end
        end
    end

    -- Meets each chunk that `drop_chunks` would remove. Where the slot is on its way to another node of a cluster, one
    -- that is there already raises, before anything was written, and the client comes again.
    function it.meet_chunks(id, count)
        local missing = 0
        for number = 0, count - 1 do
            missing = redis.call('EXISTS', it.chunk_name(id, number)) == 1 and 0 or missing + 1
            if missing == 256 then return end
        end
    end

    -- Blobs that are to be removed: asks for the rights, with what `drop` needs.
    function it.may_drop(ids)
        local counts = {}
        for number, id in ipairs(ids) do
            counts[number] = it.count_of(id)
            it.meet_chunks(id, counts[number])
            if number == 1 then
                may('UNLINK', it.chunk_name(id, 0))
                may('HDEL', KEYS[4], id)
            end
        end
        return counts
    end

    function it.drop(ids, counts)
        for number, id in ipairs(ids) do
            it.drop_chunks(id, counts[number])
            redis.call('HDEL', KEYS[4], id)
        end
    end

    -- What has expired, `most` variables of it and none of `mine`: names, their charge, their blobs. Reads only.
    function it.expired(now, most, mine)
        local names, charge, blobs = {}, 0, {}
        for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, most)) do
            if not mine[name] then
                names[#names + 1] = name
                local record = redis.call('HGET', KEYS[2], name)
                if record then
                    local one, _, _, _, _, blob = taken_apart(name, record)
                    charge = charge + one
                    if blob then blobs[#blobs + 1] = blob end
                end
            end
        end
        return names, charge, blobs
    end

    function it.may_forget(names, blobs)
        if #names > 0 then
            may('HDEL', KEYS[2], names[1])
            may('ZREM', KEYS[3], names[1])
        end
        return it.may_drop(blobs)
    end

    function it.forget(names, blobs, counts)
        for _, name in ipairs(names) do
            redis.call('HDEL', KEYS[2], name)
            redis.call('ZREM', KEYS[3], name)
        end
        it.drop(blobs, counts)
    end

    -- Slots of P, `most` of them drawn by chance, that were idle for a day: no request is repeated for so long. Reads
    -- only.
    function it.idle_slots(now, most)
        local found = {}
        local some = redis.call('HRANDFIELD', KEYS[1], most, 'WITHVALUES')
        for at = 1, #some, 2 do
            if string.sub(some[at], 1, 2) == 'c:' then
                local used_at = tonumber(string.match(some[at + 1], '^%d+ (%d+) ')) or 0
                if used_at + 86400000000 < now then found[#found + 1] = some[at] end
            end
        end
        if found[1] then may('HDEL', KEYS[1], found[1]) end
        return found
    end

    function it.drop_slots(fields)
        for _, field in ipairs(fields) do redis.call('HDEL', KEYS[1], field) end
    end

    return it
end
