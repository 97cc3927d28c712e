-- A change of the segment as a whole: clear it, change its limit, or count an answered request only.
--
-- KEYS  P, D v, D x, D b
-- ARGV  1 id  2 field of the slot  3 number  4 operation: clear, size, fence, trim  5 the new size
-- returns "g", "l", "f...", "o": see single.lua; of fence "n"; of trim "more" where there may be more
local head = redis.call('HMGET', KEYS[1], 'id', 'seq', 'used', 'size', 'x', ARGV[2])
local before = answered(head)
if before then return before end
local now = now_of(redis.call('TIME'))
local seq, used, size, ttls = tonumber(head[2]), tonumber(head[3]), head[4], tonumber(head[5])
local prefix, answer, op = string.sub(KEYS[2], 1, -2), 'o', ARGV[4]
local rare = rarely()
local blobs, dead, freed, dead_blobs, dead_counts = {}, {}, 0, {}, {}
if op == 'clear' then
    -- Of whatever type it is: `clear` is the remedy for a damaged segment.
    blobs = redis.pcall('HGETALL', KEYS[4])
    if blobs.err then blobs = {} end
    for at = 1, #blobs, 2 do rare.meet_chunks(blobs[at], tonumber(blobs[at + 1]) or 0) end
    may('UNLINK', KEYS[2], KEYS[3], KEYS[4], rare.chunk_name('', 0))
    -- Queues stay, with what they are charged.
    seq, used, ttls = math.max(seq + 1, now), tonumber(redis.call('HGET', KEYS[1], 'q') or 0) or 0, 0
    may('SPUBLISH', prefix .. '*', '')
    may('SPUBLISH', prefix .. 'w', '')
elseif op == 'size' then
    if tonumber(ARGV[5]) < used then
        answer = string.format('f%.0f 0 %s', used, ARGV[5])
    else
        size = ARGV[5]
    end
elseif op == 'trim' then
    dead, freed, dead_blobs = rare.expired(now, 5000, {})
    dead_counts = rare.may_forget(dead, dead_blobs)
    ttls, used = ttls - #dead, used - freed
    if #dead > 0 then answer = 'more' end
elseif op == 'fence' then
    answer = 'n'
end
local idle = ARGV[3] == '1' and op ~= 'fence' and rare.idle_slots(now, 4) or {}

redis.call('HSET', KEYS[1], 'seq', seq, 'used', used, 'size', size, 'x', ttls,
    ARGV[2], ARGV[3] .. string.format(' %.0f ', now) .. answer)
rare.drop_slots(idle)
if op == 'clear' then
    for at = 1, #blobs, 2 do rare.drop_chunks(blobs[at], tonumber(blobs[at + 1]) or 0) end
    redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
    redis.call('SPUBLISH', prefix .. '*', string.format('clear %.0f', seq))
    redis.call('SPUBLISH', prefix .. 'w', string.format('%.0f *', seq))
elseif op == 'trim' then
    rare.forget(dead, dead_blobs, dead_counts)
end
return answer
