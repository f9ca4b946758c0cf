--- The protocols of generated fabric modules, and the names of their ports.

local protocols = {}

--- The bytes that hexadecimal digits stand for.
function protocols.hex(text)
  return (text:gsub("%X", ""):gsub("%x%x", function(x)
    return string.char(tonumber(x, 16))
  end))
end

local function pad(text, length) return text .. ("\0"):rep(length - #text) end

--- A TransportID of the 24 byte formats (SPC-4 7.6.4): `name` at byte `at`.
local function transport_id(protocol, at, name)
  local head = string.char(protocol) .. ("\0"):rep(at - 1)
  return pad(head .. protocols.hex(name), 24)
end

--- SPC-4 table 508: an iSCSI initiator port, name and ISID.
local function iscsi_transport_id(name, isid)
  local text = name .. ",i,0x" .. isid .. "\0"
  text = pad(text, (#text + 3) // 4 * 4)
  return string.pack(">BBs2", 0x45, 0, text)
end

-- For each protocol: the module, a target port, two initiator ports with their
-- TransportIDs, what is not a name, and other spellings of the target port.
protocols.list = {
  {
    name = "iSCSI", module = "tcm_nab5000", wwn = "iqn.2026-01.org.example:disk",
    ids = {
      ["iqn.2026-01.org.example:alice"] =
        iscsi_transport_id("iqn.2026-01.org.example:alice", "00023d000001"),
      ["eui.0123456789abcdef"] =
        iscsi_transport_id("eui.0123456789abcdef", "00023d000002"),
    },
    login = { ["iqn.2026-01.org.example:alice"] =
        "iqn.2026-01.org.example:alice,i,0x00023D000001",
      ["eui.0123456789abcdef"] = "eui.0123456789abcdef,i,0x00023d000002" },
    good = { "iqn.foo", "naa.5001405123456789",
      "naa.50014051234567890000000000000001", "iqn." .. ("x"):rep(219) },
    bad = { "foo", "iqn.", "iqn.a_b", "iqn.a b", "eui.0123", "naa.5001",
      "eui.0123456789abcdeg", "iqn.\u{e4}", "iqn." .. ("x"):rep(220) },
    other = { ["IQN.Foo"] = "iqn.foo" },
  },
  {
    name = "FC", module = "tcm_mb_fc", wwn = "21:00:00:24:ff:31:4c:48",
    ids = {
      ["10:00:00:00:c9:00:00:01"] = transport_id(0, 8, "10000000c9000001"),
      ["10:00:00:00:c9:00:00:02"] = transport_id(0, 8, "10000000c9000002"),
    },
    good = { "ff:ff:ff:ff:ff:ff:ff:ff" },
    bad = { "foo", "21:00:00:24:ff:31:4c", "21000024ff314c48",
      "21:00:00:24:ff:31:4c:4g", "21-00-00-24-ff-31-4c-48",
      "21:00:00:24:ff:31:4c:48:00", "naa.21000024ff314c" },
    other = { ["naa.21000024ff314c48"] = "21:00:00:24:ff:31:4c:48",
      ["21:00:00:24:FF:31:4C:48"] = "21:00:00:24:ff:31:4c:48" },
  },
  {
    name = "SAS", module = "tcm_mb_sas", wwn = "naa.5001405123456789",
    ids = {
      ["naa.500000e000000001"] = transport_id(6, 4, "500000e000000001"),
      ["naa.500000e000000002"] = transport_id(6, 4, "500000e000000002"),
    },
    good = { "naa.0000000000000001" },
    bad = { "foo", "naa.", "naa.50014051234567", "naa.500140512345678g",
      "naa.50014051234567890", "5001405123456789" },
    other = { ["naa.500140512345678A"] = "naa.500140512345678a" },
  },
  {
    name = "SRP", module = "tcm_mb_srp",
    wwn = "0xfe800000000000000002c903000e8acd",
    ids = {
      ["0xfe800000000000000002c90300000001"] =
        transport_id(4, 8, "fe800000000000000002c90300000001"),
      ["0x0000000000000000000000000000000a"] =
        transport_id(4, 8, "0000000000000000000000000000000a"),
    },
    good = { "0x00000000000000000000000000000001" },
    bad = { "foo", "0x", "0xfe80", "fe800000000000000002c903000e8acd",
      "0xge800000000000000002c903000e8acd", "fe80::2:c903:e:8acd" },
    other = { ["fe80:0000:0000:0000:0002:c903:000e:8acd"] =
        "0xfe800000000000000002c903000e8acd" },
  },
  {
    name = "SBP", module = "tcm_mb_sbp", wwn = "0123456789abcdef",
    ids = {
      ["0001020304050607"] = transport_id(3, 8, "0001020304050607"),
      ["08090a0b0c0d0e0f"] = transport_id(3, 8, "08090a0b0c0d0e0f"),
    },
    good = { "ffffffffffffffff" },
    bad = { "foo", "0123456789abcde", "0123456789abcdeg", "eui.0123456789abcdef",
      "0123456789abcdef0" },
    other = { ["0123456789ABCDEF"] = "0123456789abcdef" },
  },
}

return protocols
