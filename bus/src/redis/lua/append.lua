-- Recording: what one entry of the stream holds, what is known of each event by its digest (the window) and by its key
-- (the view), for the scripts that record. They `record` events, then `append` them all; or `write` what they have at hand.
local log = {}
local entry, digests, latest = {}, {}, {}
local first = part.seq + 1
local told = part.told

-- queue: its name; capacity: the most events of the window; reach: how far it reaches back, in milliseconds; view: whether
-- each key's last event is known.
local function opens(queue, capacity, reach, view)
    log.queue, log.capacity, log.reach, log.view = queue, tonumber(capacity), tonumber(reach), view
end

-- key: its digest, where the view is known.
local function record(digest, key, event)
    part.seq = part.seq + 1
    digests[#digests + 1] = digest
    if log.view then
        latest[#latest + 1] = int(part.seq)
        latest[#latest + 1] = key
    end
    part.pending = part.pending + #event
    entry[#entry + 1] = 'e'
    entry[#entry + 1] = event
    return part.seq
end

-- Where an event was recorded, by what the window has of it: nothing that lies beyond the log's end, or too long ago.
local function within(found)
    local position, recorded = found:match('(%d+):(%d+)')
    position = tonumber(position)
    if tonumber(recorded) > part.now - log.reach and position <= part.seq then return position end
end

-- A view that isn't true of the log: somebody deleted it, or it is not built yet. It must be built of the log first.
local function view_is_lost()
    if redis.call('HGET', META, 'view') then return true end
    if part.floor >= first then return false end
    -- The last event is always the last of its key.
    if tonumber(redis.call('ZREVRANGE', VIEW, 0, 0, 'WITHSCORES')[2]) == first - 1 then return false end
    redis.call('HSET', META, 'view', 'lost')
    return true
end

-- The window: what is recorded now goes in, and as much as that, and more, of what is too old or too much goes out.
local function remember(changed, digests)
    local remembered, recorded = {}, ':' .. int(part.now)
    for i, digest in ipairs(digests) do
        remembered[2 * i - 1] = digest
        remembered[2 * i] = int(first + i - 1) .. recorded
    end
    local size = redis.call('HLEN', DEDUPE) + #digests
    local batches = redis.call('RPUSH', ORDER, int(part.now) .. ':' .. int(first) .. ':' .. table.concat(digests))
    if batches == 1 and size > #digests then
        -- Without its order, which somebody deleted, nothing of it would ever go out.
        redis.call('UNLINK', DEDUPE)
        size = #digests
    end
    if size == #digests then redis.call('HDEL', META, 'cut_short') end
    local fresh = redis.call('HSET', DEDUPE, unpack(remembered))
    -- Nothing that was recorded from there on was recorded again since, as a relay's events may be.
    local apart
    if batches == 1 or size == #digests or fresh < #digests then
        apart = first
        redis.call('HSET', META, 'apart', int(first))
    end
    for _ = 1, 8 do
        local oldest = redis.call('LINDEX', ORDER, 0)
        if not oldest then break end
        local time, position, rest = oldest:match('^(%d+):(%d+):()')
        local over = tonumber(time) <= part.now - log.reach
        if not over and size <= log.capacity then break end
        local gone = {}
        for i = rest, #oldest, 16 do gone[#gone + 1] = oldest:sub(i, i + 15) end
        apart = apart or tonumber(redis.call('HGET', META, 'apart') or first)
        if tonumber(position) < apart then
            local same = {}
            for i, value in ipairs(redis.call('HMGET', DEDUPE, unpack(gone))) do
                if value == int(position + i - 1) .. ':' .. time then same[#same + 1] = gone[i] end
            end
            gone = same
        end
        if #gone > 0 then redis.call('HDEL', DEDUPE, unpack(gone)) end
        redis.call('LPOP', ORDER)
        size = redis.call('HLEN', DEDUPE)
        if over then
            redis.call('HDEL', META, 'cut_short')
        else
            changed[#changed + 1] = 'cut_short'
            changed[#changed + 1] = '1'
            tell_rarely('DEDUPE_CUT_SHORT')
        end
    end
    if batches == 1 or math.floor(told / 30000) ~= math.floor(part.now / 30000) then
        redis.call('PEXPIRE', DEDUPE, log.reach + 60000)
        redis.call('PEXPIRE', ORDER, log.reach + 60000)
    end
end

-- Writes down what is recorded: its digests, and the fields of its entry that hold the events, `e` and the event in turn,
-- from a place in a table on. changed: fields of the meta that change besides.
local function write(changed, digests, entry, at)
    local id, bytes = int(first) .. '-' .. int(part.now), int(part.bytes)
    if not redis.call('XADD', STREAM, 'NOMKSTREAM', id, 'l', part.lineage, 'b', bytes, unpack(entry, at)) then
        -- It is the first of all, or somebody deleted those before it.
        if part.floor < first then forget_log(first) end
        redis.call('XADD', STREAM, id, 'l', part.lineage, 'b', bytes, unpack(entry, at))
    end
    part.bytes = part.bytes + part.pending
    -- What is recorded never lies in the future of the next time.
    for _, field in ipairs({ 'seq', int(part.seq), 'now', int(part.now), 'offset', int(part.offset), 'bytes',
        int(part.bytes) }) do
        changed[#changed + 1] = field
    end
    part.told, part.remember = part.now, false
    if log.reach > 0 then remember(changed, digests) end
    redis.call('HSET', META, unpack(changed))
    announce(first, entry, at)
end

-- Writes down what was recorded by `record`.
local function append(changed)
    if #digests == 0 then
        if #changed > 0 then redis.call('HSET', META, unpack(changed)) end
        return
    end
    if log.view then
        -- It is found lost before it gets what would hide that.
        view_is_lost()
        -- Of one key's events the last one counts.
        redis.call('ZADD', VIEW, unpack(latest))
    end
    write(changed, digests, entry, 1)
end
