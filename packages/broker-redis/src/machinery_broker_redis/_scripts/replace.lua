-- Store a record in the place of the one that was read, unless that has changed.
--
-- KEYS  1 record
-- ARGV  1 the record as it was read  2 the record to store  3 lifetime in milliseconds  4 the channel to publish it on, or ''
-- Returns 1 when it was stored, else 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[1])))
if ARGV[4] ~= '' then
    redis.pcall('PUBLISH', ARGV[4], ARGV[2])
end
return 1
