-- Lets go what a process does not know of, though it has one of its tokens: a release was lost with a server, say.
--
-- KEYS  P, D v
-- ARGV  1 id  2 process  3 the greatest number of a token that counts; then the tokens of what it holds or is taking
-- returns "g", or `run` of this server
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'g' end
-- No key has this name: see `answered`.
redis.call('EXISTS', string.sub(KEYS[2], 1, -2) .. '-')
local prefix, limit, known = string.sub(KEYS[2], 1, -2), tonumber(ARGV[3]), {}
for at = 4, #ARGV do known[ARGV[at]] = true end
local function unknown(token)
    local process, number = string.match(token or '', '^(%w+)%.(%d+)$')
    return process == ARGV[2] and not known[token] and tonumber(number) <= limit
end

local locks = {}
local all = redis.call('HGETALL', prefix .. 'l')
for at = 1, #all, 2 do
    if unknown(string.match(all[at + 1], '^(%S+) %d+$')) then locks[#locks + 1] = all[at] end
end

-- A damaged queue is left as it is: `clear` heals it.
local queues = {}
local heads = redis.call('HGETALL', prefix .. 'q')
for at = 1, #heads, 2 do
    local last, returned, held, bytes, looked = string.match(heads[at + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    returned, held = tonumber(returned), tonumber(held)
    if held and held > 0 then
        local holders, back = redis.call('HGETALL', prefix .. 'h:' .. heads[at]), {}
        for one = 1, #holders, 2 do
            local attempts, token = string.match(holders[one + 1], '^(%d+) (%S+)$')
            if unknown(token) then
                back[#back + 1] = holders[one]
                back[#back + 1] = attempts .. ' -'
            end
        end
        local count = #back / 2
        if count > 0 and #holders / 2 == returned + held and count <= held then
            local heading = string.format('%s %.0f %.0f %s %s', last, returned + count, held - count, bytes, looked)
            queues[#queues + 1] = {heads[at], heading, back}
        end
    end
end

for number, name in ipairs(locks) do
    if number == 1 then may('HDEL', prefix .. 'l', name) end
    may('SPUBLISH', prefix .. 'f:' .. name, '')
end
for _, queue in ipairs(queues) do
    may('HSET', prefix .. 'q', queue[1], queue[2])
    may('HSET', prefix .. 'h:' .. queue[1], '0', '')
    may('SPUBLISH', prefix .. 'q:' .. queue[1], '')
end
for _, name in ipairs(locks) do
    redis.call('HDEL', prefix .. 'l', name)
    redis.call('SPUBLISH', prefix .. 'f:' .. name, '')
end
for _, queue in ipairs(queues) do
    for at = 1, #queue[3], 2 do
        redis.call('HSET', prefix .. 'h:' .. queue[1], queue[3][at], queue[3][at + 1])
    end
    redis.call('HSET', prefix .. 'q', queue[1], queue[2])
    redis.call('SPUBLISH', prefix .. 'q:' .. queue[1], '')
end
return this_run()
