-- Let delayed messages that are on their way arrive at their queue. Each arrives once: what another mover has delivered since
-- is not on its way any more.
--
-- KEYS  1 moving  2 queue; not for clusters, where the two are apart
-- ARGV  the messages

for _, body in ipairs(ARGV) do
    if redis.call('ZSCORE', KEYS[1], body) then
        redis.call('RPUSH', KEYS[2], body)
        redis.call('ZREM', KEYS[1], body)
    end
end
return true
