-- Hold a public lock on, from now for a span of this server's time, while it is held with a value.
--
-- KEYS  1 lock
-- ARGV  1 value  2 milliseconds to hold it  3 milliseconds that its last fence is kept for after that
-- Returns 1 when it is held on, 0 when it was held no more, or with another value.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lock = redis.call('HMGET', KEYS[1], 'value', 'until')
if lock[1] ~= ARGV[1] or (tonumber(lock[2]) or 0) <= now then
    return 0
end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2] * 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return 1
