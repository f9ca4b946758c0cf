--- What a store says about the space that it takes up.
local tcmu = require "tcmu"

local MIB <const> = 1 << 20
local PAGE <const> = 1 << 16

-- { { "mapped", length }, ... } from the beginning to the end.
local function map(store)
  local list, at = {}, 0
  while at < store:size() do
    local status, length = store:status(at)
    assert.is_true(length > 0)
    if list[#list] and list[#list][1] == status then
      list[#list][2] = list[#list][2] + length
    else
      list[#list + 1] = { status, length }
    end
    at = at + length
  end
  assert.equal(store:size(), at)
  return list
end

local function put(store, offset, length)
  local buffer = tcmu.buffer(length)
  buffer:fill(0x5A)
  store:write(buffer, offset)
end

describe("a store that could not be opened", function()
  it("leaves nothing behind in its device", function()
    local scsi = require "tcmu.scsi"
    local sim = require "tcmu.sim"
    local dev <close> = sim.device([[=try
      local tcmu = require "tcmu"
      return tcmu.handler { name = "try",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = { [0xC0] = function()
          for _ = 1, 100 do
            assert(not pcall(tcmu.store.file, "/there/is/no/such/file"))
            collectgarbage()
            tcmu.store.memory(4096)
          end
          return "survived"
        end } }]], { size = MIB })
    local r = dev:cmd("\xC0" .. ("\0"):rep(9))
    assert.is.good(r)
    assert.equal("survived", r.data)
    assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
  end)
end)

describe("the status of", function()
  local store
  after_each(function() store:close() end)

  it("a memory store is by pages", function()
    for _, size in ipairs { 3 * MIB, (1 << 40) + 512 } do
      store = tcmu.store.memory(size)
      assert.same({ { "deallocated", size } }, map(store))
      put(store, MIB + 5, 1)
      assert.same({ { "deallocated", MIB }, { "mapped", PAGE },
                    { "deallocated", size - MIB - PAGE } }, map(store))
      local status, length = store:status(MIB + 100)
      assert.same({ "mapped", PAGE - 100 }, { status, length })
      assert.equal(PAGE, store:info().used)
      store:discard(MIB, PAGE)
      assert.same({ { "deallocated", size } }, map(store))
      assert.equal(0, store:info().used)
      store:close()
    end
    store = tcmu.store.memory(MIB)
  end)

  it("a memory store takes few steps", function()
    store = tcmu.store.memory(1 << 40)
    put(store, 0, 1)
    local _, length = store:status(PAGE)
    assert.is_true(length > 100 * MIB)
  end)

  it("a zero store is that of nothing", function()
    store = tcmu.store.zero(5 * MIB)
    assert.same({ { "deallocated", 5 * MIB } }, map(store))
  end)

  it("a file is by the holes of its file system", function()
    local path = os.tmpname()
    os.remove(path)
    store = tcmu.store.file(path, "c", 4 * MIB)
    assert.same({ { "deallocated", 4 * MIB } }, map(store))
    put(store, MIB, 2 * PAGE)
    assert.same({ { "deallocated", MIB }, { "mapped", 2 * PAGE },
                  { "deallocated", 3 * MIB - 2 * PAGE } }, map(store))
    assert.is_true(store:info().used >= 2 * PAGE)
    store:discard(MIB, PAGE)
    local status, length = store:status(MIB)
    assert.same({ "deallocated", PAGE }, { status, length })
    os.remove(path)
  end)

  it("anything is nothing at its end", function()
    for _, make in ipairs { tcmu.store.memory, tcmu.store.zero } do
      store = make(MIB)
      assert.equal(0, (select(2, store:status(MIB))))
      assert.equal(1, (select(2, store:status(MIB - 1))))
      store:close()
    end
    store = tcmu.store.zero(MIB)
  end)
end)
