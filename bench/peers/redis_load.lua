-- The chain: terminals and stores, and the cards whose indexes are ARGV[1] to ARGV[2].
for index = tonumber(ARGV[1]), tonumber(ARGV[2]) do
    local low = index * 87498949
    local number = string.format('%08d%08d', (index * 61803398 + math.floor(low / 1e8)) % 1e8, low % 1e8)
    redis.call('SET', 'c' .. number, struct.pack('>i8i8i8I4B', @opening, @opening_bonus, 0, 0, 1))
end
for store = 1, @stores do
    local cards = math.floor((@cards - store + @stores) / @stores)
    redis.call('SET', 't' .. store, tostring(store))
    redis.call('SET', 's' .. store, struct.pack('>i8i8i8i8i8', 0, -cards * @opening, -cards * @opening_bonus, 0, 0))
end
