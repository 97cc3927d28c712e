-- Removes a segment, of whatever type its keys are. It works on a server without memory.
--
-- KEYS  P, D v, D x, D b, D l, P:gone
-- ARGV  1 id  2 a text that only this request has
-- returns "o", also to a repetition; "g" where the segment of this id is gone
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
    if redis.call('GET', KEYS[6]) ~= ARGV[2] then return 'g' end
    -- Something is written, because WAIT on a connection that wrote nothing says yes at once.
    redis.call('SET', KEYS[6], ARGV[2], 'EX', 1200)
    return 'o'
end
local rare, prefix = rarely(), string.sub(KEYS[2], 1, -2)
-- No key has this name: see `answered`. Otherwise what is at the other node already would look as if it were not there.
redis.call('EXISTS', prefix .. '-')
local blobs = redis.pcall('HGETALL', KEYS[4])
if blobs.err then blobs = {} end
local queues, items = redis.pcall('HKEYS', prefix .. 'q'), redis.pcall('HGETALL', prefix .. 'k')
if queues.err then queues = {} end
if items.err then items = {} end
for at = 1, #blobs, 2 do rare.meet_chunks(blobs[at], tonumber(blobs[at + 1]) or 0) end
for at = 1, #items, 2 do rare.meet_chunks(items[at], tonumber(items[at + 1]) or 0) end
may('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], prefix .. 'o', prefix .. 'q', rare.chunk_name('', 0))
may('SET', KEYS[6], ARGV[2], 'EX', 1200)
may('SPUBLISH', prefix .. '*', 'gone')
may('SPUBLISH', prefix .. 'w', 'gone')
for at = 1, #blobs, 2 do rare.drop_chunks(blobs[at], tonumber(blobs[at + 1]) or 0) end
for at = 1, #items, 2 do rare.drop_chunks(items[at], tonumber(items[at + 1]) or 0) end
for _, name in ipairs(queues) do
    redis.call('UNLINK', prefix .. 'q:' .. name, prefix .. 't:' .. name, prefix .. 'h:' .. name)
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], prefix .. 'o', prefix .. 'q', prefix .. 'k')
redis.call('SET', KEYS[6], ARGV[2], 'EX', 1200)
redis.call('SPUBLISH', prefix .. '*', 'gone')
redis.call('SPUBLISH', prefix .. 'w', 'gone')
return 'o'
