-- `submit` for one record and one message that is not delayed: the shortest way.
--
-- KEYS  1 record  2 queue
-- ARGV  1 lifetime of the record in milliseconds  2 the record  3 the message

if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', math.max(tonumber(ARGV[1]), redis.call('PTTL', KEYS[1])))
end
return redis.call('RPUSH', KEYS[2], ARGV[3])
