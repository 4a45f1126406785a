-- Store PENDING records, then put messages on their way: nothing is published unless all its records are stored.
--
-- KEYS  the records' keys, then one key for each group of messages
-- ARGV  1 lifetime of the records in milliseconds  2 how many records, then these, then for each group of messages how many
--       and these; for delayed ones how many, negative, and a score before each
-- Returns for each group what its command returned, or its error.

local lifetime = tonumber(ARGV[1])
local records = tonumber(ARGV[2])
for i = 1, records do
    -- Nearly always there is none yet. A record of an open group lives longer: a write never shortens a life.
    if not redis.call('SET', KEYS[i], ARGV[i + 2], 'NX', 'PX', ARGV[1]) then
        redis.call('SET', KEYS[i], ARGV[i + 2], 'PX', math.max(lifetime, redis.call('PTTL', KEYS[i])))
    end
end
local replies = {}
local at = records + 3
for i = records + 1, #KEYS do
    local count = tonumber(ARGV[at])
    if count > 0 then
        replies[#replies + 1] = redis.pcall('RPUSH', KEYS[i], unpack(ARGV, at + 1, at + count))
        at = at + count + 1
    else
        replies[#replies + 1] = redis.pcall('ZADD', KEYS[i], unpack(ARGV, at + 1, at - 2 * count))
        at = at - 2 * count + 1
    end
end
return replies
