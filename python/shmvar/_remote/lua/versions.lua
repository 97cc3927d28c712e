-- Reads the versions of variables by the server's clock, without their values. The head of a record is its kind, its
-- version, and its deadline.
--
-- KEYS  P, D v
-- ARGV  1 id  2 what: of, and the fields after it; scan, and after it 3 cursor  4 how a field must begin
-- returns "g", or
--   of    {now, head or nothing, ...}
--   scan  {now, last version of the segment, cursor, run, field, head, ...}: a part of the variables; see HSCAN. A cursor
--         means nothing to another server: run is that of this one, empty where the user may not know
local known = redis.call('HMGET', KEYS[1], 'id', 'seq')
if known[1] ~= ARGV[1] then return 'g' end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function head_of(record)
    if record and #record >= 17 and string.byte(record) < 97 and struct.unpack('>I8', record, 10) <= now then
        return false
    end
    return record and string.sub(record, 1, string.byte(record) and string.byte(record) < 97 and 17 or 9)
end

local found = {now}
if ARGV[2] == 'of' then
    for first = 3, #ARGV, 5000 do
        local records = redis.call('HMGET', KEYS[2], unpack(ARGV, first, math.min(first + 4999, #ARGV)))
        for _, record in ipairs(records) do found[#found + 1] = head_of(record) end
    end
    return found
end
local part = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', 1000)
found[2], found[3], found[4] = known[2], part[1], ''
if redis.acl_check_cmd('INFO', 'server') then
    found[4] = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end
for at = 1, #part[2], 2 do
    local name, head = part[2][at], head_of(part[2][at + 1])
    if head and string.sub(name, 1, #ARGV[4]) == ARGV[4] then
        found[#found + 1] = name
        found[#found + 1] = head
    end
end
return found
