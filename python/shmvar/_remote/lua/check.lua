-- Verifies what is kept twice: what is used, the deadlines, the blobs. The variables decide.
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id
-- returns "g", "many" where there are more than 100,000 variables, {count, used}, or a text that says what is wrong
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'x')
if head[1] ~= ARGV[1] then return 'g' end
if redis.call('HLEN', KEYS[2]) > 100000 then return 'many' end
local all = redis.call('HGETALL', KEYS[2])
local used, ttls, blobs = 0, 0, 0
for at = 1, #all, 2 do
    local name, record = all[at], all[at + 1]
    local code = string.byte(record) or 0
    local begins = code < 97 and 18 or 10
    if #record < begins - 1 then return 'the record of ' .. name .. ' is cut short' end
    if struct.unpack('>I8', record, 2) > tonumber(head[2]) then return 'the version of ' .. name .. ' is yet to come' end
    used = used + 32 + #record + (string.byte(name) == 115 and #name - 1 or 0)
    if code < 97 then
        ttls = ttls + 1
        if tonumber(redis.call('ZSCORE', KEYS[3], name) or -1) ~= struct.unpack('>I8', record, 10) then
            return 'the deadline of ' .. name .. ' is not in the list of deadlines'
        end
    end
    if code == 98 or code == 66 then
        blobs = blobs + 1
        used = used + struct.unpack('>I8', record, begins + 13)
        local id, count = string.sub(record, begins + 1, begins + 8), struct.unpack('>I4', record, begins + 9)
        if tonumber(redis.call('HGET', KEYS[4], id) or -1) ~= count then return 'a blob of ' .. name .. ' is not listed' end
        for chunk = 0, count - 1 do
            local key = string.sub(KEYS[2], 1, -2) .. 'b:' .. id .. ':' .. chunk
            if redis.call('EXISTS', key) == 0 then return 'a chunk of ' .. name .. ' is missing' end
        end
    end
end
-- Queues: the items decide.
local prefix = string.sub(KEYS[2], 1, -2)
local heads, queued, large = redis.call('HGETALL', prefix .. 'q'), 0, 0
for at = 1, #heads, 2 do
    local name = heads[at]
    local last, returned, held, bytes = string.match(heads[at + 1], '^(%d+) (%d+) (%d+) (%d+) %d+$')
    local list, taken = prefix .. 'q:' .. name, prefix .. 't:' .. name
    if not bytes then return 'the record of queue ' .. name .. ' is none' end
    if redis.call('LLEN', list) > 100000 then return 'many' end
    local records, holders = redis.call('LRANGE', list, 0, -1), redis.call('HGETALL', prefix .. 'h:' .. name)
    local before, sum, waits = 0, 104 + (string.byte(name) == 115 and #name - 1 or 0), 0
    for number, record in ipairs(records) do
        local ticket = #record >= 9 and struct.unpack('>I8', record, 2) or 0
        if ticket <= before or ticket > tonumber(last) then return 'the tickets of queue ' .. name .. ' do not grow' end
        before = ticket
    end
    for number = 1, #holders, 2 do
        local record = redis.call('HGET', taken, holders[number])
        local token = string.match(holders[number + 1], '^%d+ (%S+)$')
        if not record or not token then return 'an item that was taken of queue ' .. name .. ' is missing' end
        records[#records + 1] = record
        waits = waits + (token == '-' and 1 or 0)
    end
    if redis.call('HLEN', taken) ~= #holders / 2 or waits ~= tonumber(returned)
            or waits + tonumber(held) ~= #holders / 2 or #records == 0 then
        return 'the counts of queue ' .. name .. ' are wrong'
    end
    for _, record in ipairs(records) do
        sum = sum + 32 + #record
        if string.byte(record) == 98 then
            large = large + 1
            sum = sum + struct.unpack('>I8', record, 23)
            local id, count = string.sub(record, 11, 18), struct.unpack('>I4', record, 19)
            if tonumber(redis.call('HGET', prefix .. 'k', id) or -1) ~= count then
                return 'a blob of queue ' .. name .. ' is not listed'
            end
            for chunk = 0, count - 1 do
                if redis.call('EXISTS', prefix .. 'b:' .. id .. ':' .. chunk) == 0 then
                    return 'a chunk of queue ' .. name .. ' is missing'
                end
            end
        end
    end
    if sum ~= tonumber(bytes) then return string.format('queue %s is charged %s, not %.0f', name, bytes, sum) end
    queued = queued + sum
end
if redis.call('HLEN', prefix .. 'k') ~= large then return 'the list of blobs of queues has others' end
if tonumber(redis.call('HGET', KEYS[1], 'q') or 0) ~= queued then
    return string.format('the charge for queues is not %.0f', queued)
end
used = used + queued
if redis.call('ZCARD', KEYS[3]) ~= ttls then return 'the list of deadlines has others' end
if tonumber(head[4]) ~= ttls then return 'the count of deadlines is ' .. head[4] .. ', not ' .. ttls end
if redis.call('HLEN', KEYS[4]) ~= blobs then return 'the list of blobs has others' end
if tonumber(head[3]) ~= used then return string.format('used is %s, not %.0f', head[3], used) end
return {#all / 2, string.format('%.0f', used)}
