-- Store records, unless a final one is there; keep name and creation time of what was there.
--
-- A record that is not written as Go and we write it is left alone: the caller reads it and uses `replace`.
--
-- KEYS  the records' keys
-- ARGV  1 lifetime in milliseconds  2 what the names of the channels begin with
--       then for each record: its bytes up to the creation time's text; that text; the bytes after it; the length of what
--       comes before the state's text; and whether the record is final ('1'), that is, to be published
-- Returns for each: false when it was stored as given, the creation time's text that was kept instead of the given one, or the
-- record that was there (it opens with a brace) and was left alone.

local lifetime = tonumber(ARGV[1])
local replies = {}
for i, key in ipairs(KEYS) do
    local at = 5 * i - 2
    local head, created, tail = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local old = redis.call('GET', key)
    local reply = false
    local left = lifetime
    if old then
        local prefix = tonumber(ARGV[at + 3])
        local state = string.sub(old, 1, prefix) == string.sub(head, 1, prefix) and string.match(old, '^%u+', prefix + 1)
        local since = state and state ~= 'SUCCESS' and state ~= 'FAILURE' and string.match(
            old, '^","Results":null,"Error":"","CreatedAt":"([^"\\]+)","TTL":', prefix + #state + 1)
        if not since then
            reply = old
        else
            -- Year 1 is Go's way to say that it is not known.
            if since ~= created and string.sub(since, 1, 5) ~= '0001-' then
                created = since
                reply = since
            end
            -- A record of an open group lives longer: a write never shortens a life.
            left = math.max(lifetime, redis.call('PTTL', key))
        end
    end
    if reply ~= old or not old then
        local record = head .. created .. tail
        redis.call('SET', key, record, 'PX', left)
        if ARGV[at + 4] == '1' then
            redis.pcall('PUBLISH', ARGV[2] .. key, record)
        end
    end
    replies[i] = reply
end
return replies
