-- Take dead letters out, and put them at the end of the queue where asked to.
--
-- KEYS  1 queue  2 dead  3 dead bodies  4 dead reasons
-- ARGV  1 '1' to put them back  2 limit, when all are meant  3… ids, when only these are meant
-- Returns how many there were.

local ids
if #ARGV > 2 then
    ids = {unpack(ARGV, 3)}
else
    ids = redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1)
end
local count = 0
for _, id in ipairs(ids) do
    local body = redis.call('HGET', KEYS[3], id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    redis.call('HDEL', KEYS[4], id)
    if body then
        count = count + 1
        if ARGV[1] == '1' then
            redis.call('RPUSH', KEYS[1], body)
        end
    end
end
return count
