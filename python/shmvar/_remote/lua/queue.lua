-- A change of one queue. docs/remote.md, "Queues", has the layout.
--
-- KEYS  P (the segment), D v, D x, D b
-- ARGV  1 id  2 field of the client's slot in P  3 number of the request  4 operation  5 the queue, as a field
--       put    6 kind  7 payload  8 most items that may wait, 0: any number
--       get    6 the most bytes of a record that is given at once  7 grace in us
--       take   6 token  7 lease and 8 grace in us  9 run  10 pid: the caller's session, see owners.lua
--       done   6 ticket  7 token
--       back   6 ticket  7 token
--       undo   6 token: gives back what a take may have taken, or may yet take. 2 and 3 are those of the take
--       again  6 ticket  7 kind  8 payload  9 attempts: what was got waits again, as the first
--       clear  6 the last ticket, "": of now  7 grace in us
--       look   6 grace in us: gives back what dead holders have. It has no slot, and needs none
-- returns one of
--       "g" the segment is gone      "l" a later request of this slot was here
--       "f<needed> <free> <size>" full      "a" all fits, but a chunk is missing      "m<waiting>" so many wait
--       "n<held> <dying>" nothing waits; so many are held, and so many holders look dead: not recorded
--       "b" the record is too long for `get`: not recorded     "e" ended: this hold is no more
--       "o" done; of get with the record         "h<attempts> <ticket> <record>" taken
--       "+<ticket> <0 or 1>" cleared, but there may be more up to this ticket; 1: only what holders have that look dead
--       {waiting, held, dying} of look

-- Large values of items are listed apart from those of variables, which `clear` of the segment removes.
local prefix = string.sub(KEYS[2], 1, -2)
KEYS[4] = prefix .. 'k'
local op, name, looks, undoes = ARGV[4], ARGV[5], ARGV[4] == 'look', ARGV[4] == 'undo'
local list, taken, holders, heads = prefix .. 'q:' .. name, prefix .. 't:' .. name, prefix .. 'h:' .. name, prefix .. 'q'
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', looks and 'id' or ARGV[2], 'q')
if looks or undoes then
    if head[1] ~= ARGV[1] then return 'g' end
else
    local before = answered(head)
    if before and op == 'take' and string.byte(before) == 104 then
        -- A repetition: the slot keeps no record. The item is held, unless it was handed on meanwhile.
        local ticket = string.match(before, ' (%d+) $')
        local holder, record = redis.call('HGET', holders, ticket), redis.call('HGET', taken, ticket)
        if record and holder and string.match(holder, '^%d+ (%S+)$') == ARGV[6] then return before .. record end
        return 'e'
    end
    if before then return before end
end
local now = now_of(redis.call('TIME'))
local used, size, queued = tonumber(head[3]), tonumber(head[4]), tonumber(head[7] or 0)
local mends = not queued and op == 'clear'
if mends then queued = 0 end
if not used or not queued then damaged('a charge of the segment is no number') end

-- The state of the queue. One that is damaged can be cleared, and nothing else.
local stored = redis.call('HGET', heads, name)
local last, returned, held, bytes, looked = 0, 0, 0, 0, 0
if stored then
    last, returned, held, bytes, looked = string.match(stored, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    last, returned, held = tonumber(last), tonumber(returned), tonumber(held)
    bytes, looked = tonumber(bytes), tonumber(looked)
end
-- nil: it is of another type.
local function length(command, key)
    local found = redis.pcall(command, key)
    if type(found) == 'number' then return found end
    if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found) end
end
local waits, kept, holds = length('LLEN', list), 0, 0
if (op ~= 'put' and op ~= 'get') or not looked or returned + held > 0 then
    -- Whoever neither reads nor writes them need not ask.
    kept, holds = length('HLEN', taken), length('HLEN', holders)
end
local broken = not looked or last > 9007199254740991 or not waits or not kept or not holds
    or returned + held ~= holds or kept ~= holds or (not stored and waits + holds > 0)
local function broken_by(what)
    damaged(what .. ' of the queue ' .. name .. ' is none; `clear` of the queue removes it')
end
if broken and op ~= 'clear' then broken_by('the record or the list') end

-- What an item is charged, and the id of its large value.
local function charge_of(item)
    local charge, _, _, _, _, id = taken_apart('i', item)
    return charge, id
end

-- Who has what: ticket -> attempts and token.
local found = nil
local function entries()
    if found then return found end
    found = {}
    local all = redis.call('HGETALL', holders)
    for at = 1, #all, 2 do
        local attempts, token = string.match(all[at + 1], '^(%d+) (%S+)$')
        if not token or not tonumber(all[at]) then
            if op ~= 'clear' then broken_by('a holder') end
            broken = true
        end
        found[all[at]] = {attempts, token}
    end
    return found
end

-- What dead holders have is given back by the way.
local grace = tonumber((op == 'get' or op == 'clear') and ARGV[7] or op == 'take' and ARGV[8] or looks and ARGV[6] or 0)
local back, marks, dying, swept = {}, {}, 0, false
if grace > 0 and not broken and held > 0
    and (op == 'clear' or now - looked >= 50000 or looked > now or waits + returned == 0) then
    local states = {}
    for ticket, entry in pairs(entries()) do
        if entry[2] and entry[2] ~= '-' then
            local owner = string.match(entry[2], '^[^.]*')
            if op == 'take' and owner == string.match(ARGV[6], '^[^.]*') then
                -- Who asks lives.
                states[owner] = 'held'
            elseif not states[owner] then
                states[owner], marks[owner] = owner_state(owner, now, grace)
                if states[owner] == 'dying' then dying = dying + 1 end
            end
            if states[owner] == 'gone' then
                entry[2] = '-'
                back[#back + 1] = ticket
            end
        end
    end
    -- While somebody is dying each call looks.
    returned, held, looked, swept = returned + #back, held - #back, dying == 0 and now or 0, true
end

-- What is to be done. `cost` comes to the queue's charge, `freed` goes.
local answer, ticket, record, entry, from_list = 'o', nil, nil, nil, false
local cost, freed, blob, chunks, count = 0, 0, nil, 0, 0
local adds, takes, removes, gives, own = false, false, false, false, nil
local dropped, counts, gone, ended, process = {}, {}, {}, {}, nil
if op == 'put' or op == 'again' then
    local kind, payload, most = ARGV[6], ARGV[7], tonumber(ARGV[8])
    if op == 'put' then
        last = math.max(last + 1, now)
        ticket = string.format('%.0f', last)
    else
        ticket, kind, payload, most = ARGV[6], ARGV[7], ARGV[8], 0
        -- Of another item only where the clock was set back.
        while redis.call('HGET', taken, ticket) do ticket = string.format('%.0f', tonumber(ticket) - 1) end
        last = math.max(last, tonumber(ticket))
    end
    record = kind .. struct.pack('>I8', tonumber(ticket)) .. payload
    cost, blob = charge_of(record)
    if not stored then cost = cost + 104 + (string.byte(name) == 115 and #name - 1 or 0) end
    if most > 0 and waits + returned >= most then
        answer = string.format('m%.0f', waits + returned)
    elseif op == 'put' and used + cost > size then
        answer = string.format('f%.0f %.0f %.0f', cost, math.max(size - used, 0), size)
    elseif blob then
        chunks = struct.unpack('>I4', payload, 10)
        local rare = rarely()
        for number = 0, chunks - 1 do
            if redis.call('EXISTS', rare.chunk_name(blob, number)) == 0 then
                answer = 'a'
                break
            end
        end
    end
    adds = answer == 'o'
elseif op == 'get' or op == 'take' then
    if waits + returned == 0 or (op == 'take' and returned == 0 and held >= 640) then
        answer = string.format('n%.0f %.0f', held, dying)
    else
        if returned > 0 then
            for one, holder in pairs(entries()) do
                if holder[2] == '-' and (not ticket or tonumber(one) < tonumber(ticket)) then
                    ticket, entry = one, holder
                end
            end
            record = ticket and redis.call('HGET', taken, ticket)
        else
            from_list, record, entry = true, redis.call('LINDEX', list, 0), {'0'}
            ticket = #record >= 9 and string.format('%.0f', struct.unpack('>I8', record, 2))
        end
        if not record or not ticket or tonumber(ticket) > last then broken_by('the first item') end
        if op == 'take' then
            entry[1], entry[2] = string.format('%.0f', tonumber(entry[1]) + 1), ARGV[6]
            takes, answer = true, 'h' .. entry[1] .. ' ' .. ticket .. ' '
            process = string.match(ARGV[6], '^[^.]*')
            own = session(process, now, tonumber(ARGV[7]), ARGV[9], ARGV[10])
            if own then ended = ended_sessions(now) end
        else
            freed, blob = charge_of(record)
            if blob or #record > tonumber(ARGV[6]) then
                answer, freed = 'b', 0
            else
                removes, answer = true, 'o' .. record
            end
        end
    end
elseif op == 'done' or op == 'back' or undoes then
    local wanted = ARGV[7]
    if undoes then
        wanted = ARGV[6]
        for one, each in pairs(entries()) do
            if each[2] == wanted then ticket = one end
        end
    else
        ticket = ARGV[6]
    end
    local attempts, token = string.match(ticket and redis.call('HGET', holders, ticket) or '', '^(%d+) (%S+)$')
    if token ~= wanted then
        answer = undoes and 'o' or 'e'
    elseif op ~= 'done' then
        gives, entry = true, {attempts, '-'}
    else
        removes, record = true, redis.call('HGET', taken, ticket) or ''
        freed, blob = charge_of(record)
        if blob then dropped = {blob} end
    end
elseif op == 'clear' and not broken then
    -- What was given back, and a part of the list.
    local last_one = tonumber(ARGV[6]) or last
    for one, holder in pairs(entries()) do
        if not redis.call('HGET', taken, one) or (tonumber(one) or math.huge) > last then broken = true end
        if holder[2] == '-' and tonumber(one) and tonumber(one) <= last_one then gone[#gone + 1] = one end
    end
    local some = redis.call('LRANGE', list, 0, 999)
    for _, one in ipairs(some) do
        local number = #one >= 9 and struct.unpack('>I8', one, 2) or math.huge
        if number > last then broken = true end
        if number > last_one then break end
        count = count + 1
    end
    for at = 1, #gone + count do
        local one = at <= #gone and (redis.call('HGET', taken, gone[at]) or '') or some[at - #gone]
        local charge, id = charge_of(one)
        freed = freed + charge
        if id then dropped[#dropped + 1] = id end
    end
    if count == 1000 or dying > 0 then answer = string.format('+%.0f %d', last_one, count == 1000 and 0 or 1) end
end

-- The numbers afterwards. A damaged queue goes as a whole, with what it says it is charged if that can be.
if broken then
    returned, held, waits, bytes = 0, 0, 0, tonumber(bytes) or 0
    freed = bytes <= queued and bytes or 0
else
    if op == 'put' and adds then waits = waits + 1 elseif adds then returned = returned + 1 end
    if takes or removes then
        if op == 'done' then held = held - 1
        elseif from_list then waits = waits - 1
        else returned = returned - 1 end
    end
    if takes then held = held + 1 end
    if gives then held, returned = held - 1, returned + 1 end
    if op == 'clear' then waits, returned = waits - count, returned - #gone end
end
local empty = waits + returned + held == 0
if empty and not broken and not adds then freed = bytes end
local charged = freed > 0 or adds or mends
bytes, used, queued = math.max(bytes + (adds and cost or 0) - freed, 0), used - freed, math.max(queued - freed, 0)
if adds then used, queued = used + cost, queued + cost end
used = math.max(used, 0)
local writes = adds or takes or removes or gives or swept or (op == 'clear' and (stored or broken))
local heading = not empty and string.format('%.0f %.0f %.0f %.0f %.0f', last, returned, held, bytes, looked)

-- The rights to what follows. The types of the keys are known already, but those of `D k` and of the sessions.
local idle = not looks and ARGV[3] == '1' and rarely().idle_slots(now, 4) or {}
local rare = (dropped[1] or blob or idle[1]) and rarely() or nil
local items, room = prefix .. 'q:' .. name, prefix .. 'r:' .. name
local wakes = adds or gives or #back > 0 or (op == 'done' and removes and held >= 639)
if writes then
    if heading then may('HSET', heads, name, heading) else may('HDEL', heads, name) end
    if op == 'put' then may('RPUSH', list, '') end
    if from_list or count > 0 then may('LPOP', list) end
    if takes or gives or back[1] or op == 'again' then may('HSET', holders, '0', '') end
    if (takes and from_list) or op == 'again' then may('HSET', taken, '0', '') end
    if removes or gone[1] then
        may('HDEL', holders, '0')
        may('HDEL', taken, '0')
    end
    if broken then may('UNLINK', list, taken, holders) end
    if own or next(marks) then may('HSET', session_key(), '', '') end
    if dropped[1] then counts = rare.may_drop(dropped) end
    if adds and blob then
        redis.call('HLEN', KEYS[4])
        may('PERSIST', rare.chunk_name(blob, 0))
        may('HSET', KEYS[4], blob, chunks)
    end
    if wakes then may('SPUBLISH', items, '') end
    if removes or takes or op == 'clear' then may('SPUBLISH', room, '') end
end

if (looks or answer == 'b' or string.byte(answer) == 110) and not back[1] then
    -- Not recorded, so that a poll writes nothing, but who looks dead for the first time. The caller of a request that
    -- has a number bars it if an earlier copy is on its way.
    if next(marks) then
        may('HSET', session_key(), '', '')
        for one, mark in pairs(marks) do redis.call('HSET', session_key(), one, mark) end
    end
    return looks and {waits + returned, held, dying} or answer
end
local before = undoes and tonumber(string.match(head[6] or '', '^(%d+) ') or 0) or -1
if not looks and before < tonumber(ARGV[3]) then
    local slot = ARGV[3] .. string.format(' %.0f ', now) .. answer
    if charged then
        redis.call('HSET', KEYS[1], 'used', string.format('%.0f', used), 'q',
            string.format('%.0f', queued), ARGV[2], slot)
    else
        redis.call('HSET', KEYS[1], ARGV[2], slot)
    end
    if idle[1] then rare.drop_slots(idle) end
end
if writes then
    for one, mark in pairs(marks) do redis.call('HSET', session_key(), one, mark) end
    for _, one in ipairs(ended) do redis.call('HDEL', session_key(), one) end
    if own then redis.call('HSET', session_key(), process, own) end
    for _, one in ipairs(back) do redis.call('HSET', holders, one, found[one][1] .. ' -') end
    if adds and op == 'put' then
        redis.call('RPUSH', list, record)
    elseif adds then
        redis.call('HSET', taken, ticket, record)
        redis.call('HSET', holders, ticket, ARGV[9] .. ' -')
    elseif takes or gives then
        redis.call('HSET', holders, ticket, entry[1] .. ' ' .. entry[2])
        if from_list then redis.call('HSET', taken, ticket, record) end
    elseif removes and not from_list then
        gone = {ticket}
    end
    if from_list then count = 1 end
    if count > 0 then redis.call('LPOP', list, count) end
    for _, one in ipairs(gone) do
        redis.call('HDEL', taken, one)
        redis.call('HDEL', holders, one)
    end
    if broken then redis.call('UNLINK', list, taken, holders) end
    if adds and blob then
        for number = 0, chunks - 1 do redis.call('PERSIST', rare.chunk_name(blob, number)) end
        redis.call('HSET', KEYS[4], blob, chunks)
    end
    if dropped[1] then rare.drop(dropped, counts) end
    if heading then redis.call('HSET', heads, name, heading) else redis.call('HDEL', heads, name) end
    if wakes then redis.call('SPUBLISH', items, '') end
    if removes or takes or op == 'clear' then redis.call('SPUBLISH', room, '') end
end
if looks then return {waits + returned, held, dying} end
return takes and answer .. record or answer
