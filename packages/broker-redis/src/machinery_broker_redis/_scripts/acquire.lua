-- Take a lock, or take over one whose time has passed: Go's steps (protocol 8.6), without the races between them.
--
-- KEYS  1 lock
-- ARGV  1 value: nanoseconds until which it is taken, less one  2 milliseconds until then  3 nanoseconds now
-- Returns 1 when it was taken, else 0.

local held = redis.call('GET', KEYS[1])
if held and (tonumber(held) or math.huge) >= tonumber(ARGV[3]) then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
