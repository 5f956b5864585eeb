-- The version of each key, its last event's position, with what the script records; and what can't be recorded because of it.
local versions = {}

local function version_of(key)
    if not versions[key] then
        local position = tonumber(redis.call('ZSCORE', VIEW, key) or 0)
        -- What was trimmed is its key's last event no more.
        versions[key] = position >= part.floor and position or 0
    end
    return versions[key]
end

-- What keeps a publish out that expects versions, or has events that wait, of which a partition has `most` at most.
local function objection(publish, from, most)
    if publish.expects and view_is_lost() then return { 6 } end
    local position, room_left = part.seq, most - part.waiting
    local later, again = {}, {}
    return each_new(publish, from, function(event, index)
        local digest, of = args[event], said(event)
        if again[digest] and not from then return nil end
        again[digest] = true
        if of.due then
            room_left = room_left - 1
            return room_left < 0 and { 5, index } or nil
        end
        local current = later[of.key] or of.version and version_of(of.key)
        if of.version and of.version ~= current then return { 4, index, current } end
        position = position + 1
        later[of.key] = position
    end)
end
