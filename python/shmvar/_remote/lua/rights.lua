-- Asks which commands this user may run. Nothing is carried out.
--
-- ARGV  each a command with its arguments, as a list in JSON
-- returns of each "yes", "no", or "unknown" to this server
local found = {}
for at = 1, #ARGV do
    local known, may = pcall(redis.acl_check_cmd, unpack(cjson.decode(ARGV[at])))
    found[at] = known and (may and 'yes' or 'no') or 'unknown'
end
return found
