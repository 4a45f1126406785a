-- Let go of a public lock while it is held with a value. Its last fence is kept.
--
-- KEYS  1 lock
-- ARGV  1 value
-- Returns 1 when it was let go, 0 when it was held no more, or with another value.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lock = redis.call('HMGET', KEYS[1], 'value', 'until')
if lock[1] ~= ARGV[1] or (tonumber(lock[2]) or 0) <= now then
    return 0
end
redis.call('HDEL', KEYS[1], 'value', 'until')
return 1
