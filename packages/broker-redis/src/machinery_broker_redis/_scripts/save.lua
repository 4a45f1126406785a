-- Store records, unless a final one is there; keep name and creation time of what was there.
--
-- A record that is not written as Go and we write it is left alone: the caller reads it and uses `replace`.
--
-- KEYS  the records' keys
-- ARGV  1 lifetime in milliseconds  2 what the names of the channels begin with
--       then for each record: its bytes up to the creation time's text; that text; the bytes after it; the length of what
--       comes before the state's text; and whether the record is final ('1'), that is, to be published
-- Returns for each: false when it was stored as given, the creation time's text that was kept instead of the given one, or '='
-- and the record that was there and was left alone.

-- The creation time in the record `old` where that is not final, has the same name as `head`, and is written as usual.
local function time_to_keep(old, head, prefix)
    if string.sub(old, 1, prefix) ~= string.sub(head, 1, prefix) then
        return nil
    end
    local state = string.match(old, '^%u+', prefix + 1)
    if not state or state == 'SUCCESS' or state == 'FAILURE' then
        return nil
    end
    return string.match(old, '^","Results":null,"Error":"","CreatedAt":"([^"\\]+)","TTL":', prefix + #state + 1)
end

local lifetime = tonumber(ARGV[1])
local replies = {}
for i, key in ipairs(KEYS) do
    local at = 5 * i - 2
    local head, created = ARGV[at], ARGV[at + 1]
    local old = redis.call('GET', key)
    local reply = false
    -- An empty string is a place that an open group keeps.
    if old and old ~= '' then
        local since = time_to_keep(old, head, tonumber(ARGV[at + 3]))
        if not since then
            reply = '=' .. old
        elseif since ~= created and string.sub(since, 1, 5) ~= '0001-' then
            -- Year 1 would be Go's way to say that it is not known.
            reply = since
            created = since
        end
    end
    if not reply or reply == created then
        -- A record of an open group lives longer: a write never shortens a life.
        local left = old and math.max(lifetime, redis.call('PTTL', key)) or lifetime
        local record = head .. created .. ARGV[at + 2]
        redis.call('SET', key, record, 'PX', left)
        if ARGV[at + 4] == '1' then
            redis.pcall('PUBLISH', ARGV[2] .. key, record)
        end
    end
    replies[i] = reply
end
return replies
