-- Write a group in place of an earlier one.
--
-- KEYS  1 meta  2 ours  3 finished  4 claimant
-- ARGV  1 lifetime in milliseconds  2 the metadata  3 the callback, or ''

redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], 'callback', ARGV[3], 'renewed', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
return 1
