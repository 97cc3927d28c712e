-- Reads queues. What a holder has whose session has ended waits.
--
-- KEYS  P, D v
-- ARGV  1 id  2 grace in us  3 the queue, as a field, or nothing: all
-- returns "g", or {name, waiting, held, charge, ...} of those that have items
local prefix = string.sub(KEYS[2], 1, -2)
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'g' end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local heads = {ARGV[3], redis.call('HGET', prefix .. 'q', ARGV[3] or '')}
if not ARGV[3] then heads = redis.call('HGETALL', prefix .. 'q') end
local answer, states = {}, {}
for at = 1, #heads, 2 do
    local name, head = heads[at], heads[at + 1]
    local returned, held, bytes = string.match(head or '0 0 0 0 0', '^%d+ (%d+) (%d+) (%d+) %d+$')
    local waits = redis.pcall('LLEN', prefix .. 'q:' .. name)
    -- Of a damaged one, that it is there.
    returned, held, waits = tonumber(returned) or 0, tonumber(held) or 0, tonumber(waits) or 0
    if held > 0 then
        local all = redis.pcall('HGETALL', prefix .. 'h:' .. name)
        for one = 2, all.err and 0 or #all, 2 do
            local process = string.match(all[one], '^%d+ ([^.]+)%.')
            if process then
                states[process] = states[process] or owner_state(process, now, tonumber(ARGV[2]), true)
                if states[process] == 'gone' then returned, held = returned + 1, held - 1 end
            end
        end
    end
    answer[#answer + 1] = name
    answer[#answer + 1] = returned + waits
    answer[#answer + 1] = math.max(held, 0)
    answer[#answer + 1] = bytes or '0'
end
return answer
