-- Opens a segment or creates it. A repetition is recognised by the id that the caller drew.
--
-- KEYS  P
-- ARGV  1 id for a new segment  2 size, "": what is there or 1 GiB  3 mode: "any", "new" must create, "old" must find
-- returns "missing", "exists", or {id, 1 if this call created it, size, format}
local head = redis.call('HMGET', KEYS[1], 'f', 'id', 'size')
local now = now_of(redis.call('TIME'))
if head[1] or redis.call('EXISTS', KEYS[1]) == 1 then
    if head[1] ~= '1' then return {head[2] or '', 0, head[3] or '0', head[1] or ''} end
    if not head[2] or not tonumber(head[3]) then damaged('the segment has no id or no size') end
    local created = head[2] == ARGV[1] and 1 or 0
    if ARGV[3] == 'new' and created == 0 then return 'exists' end
    -- Slots of clients that are gone.
    local rare = rarely()
    local idle = rare.idle_slots(now, 20)
    if ARGV[2] ~= '' and tonumber(ARGV[2]) > tonumber(head[3]) then head[3] = ARGV[2] end
    -- A repetition writes, too: WAIT says yes at once on a connection that wrote nothing.
    if ARGV[2] ~= '' or created == 1 then redis.call('HSET', KEYS[1], 'size', head[3]) end
    rare.drop_slots(idle)
    return {head[2], created, head[3], '1'}
end
if ARGV[3] == 'old' then return 'missing' end
local size = ARGV[2] ~= '' and ARGV[2] or '1073741824'
now = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'f', '1', 'id', ARGV[1], 'seq', now, 'used', '0', 'size', size, 'x', '0', 'at', now)
return {ARGV[1], 1, size, '1'}
