-- A backstore's configfs directory, by a tree of our own.
local configfs = require "tcmu.configfs"
local tree = require "spec.tree"

describe("tcmu.configfs", function()
  local root

  local function device(values)
    root = tree.make(tree.backstore("user_0/d", values))
    return configfs.device("user_0", "d", root)
  end

  after_each(function()
    if root then tree.remove(root) end
    root = nil
  end)

  it("reads what the disk is to be", function()
    assert.same({ size = 1 << 26, block_size = 512, max_sectors = 2048,
                  write_cache = true, cmd_time_out = 30,
                  reservations = true }, device():facts())
  end)

  it("says which attribute it could not read", function()
    local facts, why = device { ["attrib/dev_size"] = "many\n" }:facts()
    assert.is_nil(facts)
    assert.matches("attrib/dev_size: 'many' is no number", why, 1, true)
  end)

  it("takes the kernel's own vendor for one that nobody has set", function()
    assert.same({ serial = "", vendor = "", product = "", revision = "",
                  company_id = "001405" }, device():wwn())
  end)

  it("reads names that somebody has set", function()
    assert.same({ serial = "1234-5678", vendor = "ACME", product = "Disk 1",
                  revision = "7", company_id = "00a0b8" }, device {
      ["wwn/vpd_unit_serial"] = "T10 VPD Unit Serial Number: 1234-5678\n",
      ["wwn/vendor_id"] = "ACME    \n",
      ["wwn/product_id"] = "Disk 1\n",
      ["wwn/revision"] = "7\n",
      ["wwn/company_id"] = "0x00a0b8\n",
    }:wwn())
  end)

  it("sees from info whether a LUN stands on the device", function()
    assert.is_false(device():exported())
    tree.add(root, { ["core/user_0/d/info"] = "Status: ACTIVATED  Max\n" })
    assert.is_true(configfs.device("user_0", "d", root):exported())
  end)

  it("writes an attribute in one piece", function()
    local d = device()
    assert.is_true(d:block())
    assert.equal("1", tree.read(root .. "/core/user_0/d/action/block_dev"))
  end)

  it("does not make a file that the kernel has not got", function()
    local ok, why, code = device():write("attrib/nonsense", 1)
    assert.is_nil(ok)
    assert.matches("attrib/nonsense: No such file", why, 1, true)
    assert.equal(2, code)
  end)

  describe("on the shape of a disk", function()
    it("accepts powers of two from 512 on that divide the size", function()
      for _, block_size in ipairs { 512, 1024, 4096, 1 << 16 } do
        assert.is_nil(configfs.unsound(1 << 20, block_size))
      end
    end)

    it("refuses block sizes that no disk has", function()
      for _, block_size in ipairs { 0, 1, 256, 513, 520, 3000 } do
        assert.matches("hw_block_size", configfs.unsound(1 << 20, block_size))
      end
    end)

    it("refuses a size that ends within a block, and none at all", function()
      assert.matches("round it to 4096", configfs.unsound(5000, 4096))
      assert.matches("dev_size is not set", configfs.unsound(0, 512))
    end)
  end)

  describe("looking for devices", function()
    local function add_lun(at)
      tree.add(root, {
        [at .. "/dev"] = { link = "../../../../../../target/core/user_0/d" },
      })
    end

    it("finds user backstores and no others", function()
      device()
      tree.add(root, tree.backstore("user_12/e"))
      tree.add(root, tree.backstore("iblock_0/f"))
      local names = {}
      for i, found in ipairs(configfs.devices(root)) do
        names[i] = found.hba .. "/" .. found.name
      end
      assert.same({ "user_0/d", "user_12/e" }, names)
      assert.equal("user_12", configfs.find("e", root).hba)
      assert.is_nil(configfs.find("f", root))
    end)

    it("finds the LUNs of every fabric", function()
      local d = device()
      tree.add(root, tree.backstore("user_0/dd"))
      add_lun("loopback/naa.1/tpgt_1/lun/lun_0")
      add_lun("iscsi/iqn.x/tpgt_1/lun/lun_5")
      tree.add(root, { ["iscsi/iqn.x/tpgt_1/lun/lun_6/other"] =
                         { link = "../../../../../../target/core/user_0/dd" } })
      local found = d:luns()
      assert.equal(2, #found)
      assert.equal("iscsi", found[1].fabric)
      assert.equal(5, found[1].number)
      assert.equal(root .. "/loopback/naa.1/tpgt_1/lun/lun_0", found[2].path)
      assert.equal(root .. "/loopback/naa.1/tpgt_1", found[2].tpg)
    end)
  end)
end)
