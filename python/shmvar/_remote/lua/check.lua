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
if redis.call('ZCARD', KEYS[3]) ~= ttls then return 'the list of deadlines has others' end
if tonumber(head[4]) ~= ttls then return 'the count of deadlines is ' .. head[4] .. ', not ' .. ttls end
if redis.call('HLEN', KEYS[4]) ~= blobs then return 'the list of blobs has others' end
if tonumber(head[3]) ~= used then return string.format('used is %s, not %.0f', head[3], used) end
return {#all / 2, string.format('%.0f', used)}
