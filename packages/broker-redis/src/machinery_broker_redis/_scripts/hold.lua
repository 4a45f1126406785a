-- Hold a public lock for a span of this server's time, unless somebody holds it.
--
-- KEYS  1 lock (HASH: value and until while it is held, fence: the last one given)
-- ARGV  1 value  2 milliseconds to hold it  3 milliseconds that its last fence is kept for after that
-- Returns the fence: the time in microseconds, or the last fence and one where that is more; 0 when somebody holds the lock.
-- Run twice (a driver that follows a moving slot may do so), it answers twice the same.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lock = redis.call('HMGET', KEYS[1], 'until', 'fence', 'value')
local last = tonumber(lock[2]) or 0
if (tonumber(lock[1]) or 0) > now then
    return lock[3] == ARGV[1] and last or 0
end
local fence = math.max(now, last + 1)
local function text(number)
    return string.format('%.0f', number) -- tostring would write 1.7e+15
end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'until', text(now + ARGV[2] * 1000), 'fence', text(fence))
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return fence
