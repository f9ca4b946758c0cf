--- The T10 protocols: how each names its ports.
-- The target core turns the names of initiators into TransportIDs (SPC-4 7.6.4)
-- and back, and compares them as text.  So each protocol has one spelling that
-- a generated module accepts, the one that the core itself writes:
--
--   FC     21:00:00:24:ff:31:4c:48                 8 bytes
--   SAS    naa.5001405123456789                    8 bytes
--   iSCSI  iqn.2026-01.org.example:disk            up to 223 bytes
--   SRP    0xfe800000000000000002c903000e8acd      16 bytes
--   SBP    0123456789abcdef                        8 bytes
--
-- An entry: `proto_id`, the core's constant; `port`, the word for a target
-- port; `namelen`, the longest name and its final NUL; `example`; `field` and
-- `store`, the binary name in the port's structure and how it gets there;
-- `parse`, the prototype of the parser; `code`, C that defines the parser and
-- @mod@_normalize_wwn; `nexus_field` and `nexus_code`, the initiator's side.

local protocols = {}

--- A module's parser for names of eight bytes, which fit a u64.
local function eight_bytes(about, condition, format)
  return ([[
/* Reads a port name: ]] .. about .. [[ */
int @mod@_parse_wwn(const char *name, u64 *wwn)
{
	__be64 raw;

	if (]] .. condition .. [[)
		return -EINVAL;

	*wwn = be64_to_cpu(raw);
	return 0;
}

static int @mod@_normalize_wwn(const char *name, char *buf)
{
	u64 wwn;
	int ret = @mod@_parse_wwn(name, &wwn);

	if (!ret)
		snprintf(buf, @MOD@_NAMELEN, "]] .. format .. [[", wwn);
	return ret;
}
]])
end

local PARSE_U64 <const> = "int @mod@_parse_wwn(const char *name, u64 *wwn);"
local NEXUS_CODE <const> = [[
static int @mod@_name_nexus(struct @mod@_nexus *nexus, const char *name)
{
	return @mod@_normalize_wwn(name, nexus->initiator);
}
]]

protocols.FC = {
  proto_id = "SCSI_PROTOCOL_FCP",
  port = "lport",
  namelen = 24,
  example = "21:00:00:24:ff:31:4c:48",
  field = "u64 lport_wwpn;",
  store = "@mod@_parse_wwn(name, &lport->lport_wwpn);",
  parse = PARSE_U64,
  nexus_code = NEXUS_CODE,
  code = [[
/* Reads a port name: 21:00:00:24:ff:31:4c:48 or naa.21000024ff314c48 */
int @mod@_parse_wwn(const char *name, u64 *wwn)
{
	__be64 raw;
	u8 *bytes = (u8 *)&raw;
	int i;

	if (strlen(name) == 23) {
		for (i = 0; i < 8; i++) {
			if (i && name[3 * i - 1] != ':')
				return -EINVAL;
			if (hex2bin(&bytes[i], &name[3 * i], 1))
				return -EINVAL;
		}
	} else if (strlen(name) != 20 || strncmp(name, "naa.", 4) ||
		   hex2bin(bytes, name + 4, 8)) {
		return -EINVAL;
	}

	*wwn = be64_to_cpu(raw);
	return 0;
}

static int @mod@_normalize_wwn(const char *name, char *buf)
{
	__be64 raw;
	u64 wwn;
	int ret = @mod@_parse_wwn(name, &wwn);

	if (ret)
		return ret;

	raw = cpu_to_be64(wwn);
	snprintf(buf, @MOD@_NAMELEN, "%8phC", &raw);
	return 0;
}
]],
}

protocols.SAS = {
  proto_id = "SCSI_PROTOCOL_SAS",
  port = "tport",
  namelen = 21,
  example = "naa.5001405123456789",
  field = "u64 tport_wwpn;",
  store = "@mod@_parse_wwn(name, &tport->tport_wwpn);",
  parse = PARSE_U64,
  nexus_code = NEXUS_CODE,
  code = eight_bytes("naa.5001405123456789", [[
strlen(name) != 20 || strncmp(name, "naa.", 4) ||
	    hex2bin((u8 *)&raw, name + 4, 8)]], "naa.%016llx"),
}

protocols.SBP = {
  proto_id = "SCSI_PROTOCOL_SBP",
  port = "tport",
  namelen = 17,
  example = "0123456789abcdef",
  field = "u64 tport_wwpn;",
  store = "@mod@_parse_wwn(name, &tport->tport_wwpn);",
  parse = PARSE_U64,
  nexus_code = NEXUS_CODE,
  code = eight_bytes("an EUI-64, 0123456789abcdef", [[
strlen(name) != 16 || hex2bin((u8 *)&raw, name, 8)]], "%016llx"),
}

protocols.SRP = {
  proto_id = "SCSI_PROTOCOL_SRP",
  port = "tport",
  namelen = 35,
  example = "0xfe800000000000000002c903000e8acd",
  field = "u8 tport_id[16];",
  store = "@mod@_parse_wwn(name, tport->tport_id);",
  parse = "int @mod@_parse_wwn(const char *name, u8 *id);",
  nexus_code = NEXUS_CODE,
  code = [[
/*
 * Reads a port identifier of 16 bytes, 0xfe800000000000000002c903000e8acd, or
 * written as the GID fe80:0000:0000:0000:0002:c903:000e:8acd.
 */
int @mod@_parse_wwn(const char *name, u8 *id)
{
	int i;

	if (strlen(name) == 34 && !strncmp(name, "0x", 2))
		return hex2bin(id, name + 2, 16) ? -EINVAL : 0;

	if (strlen(name) != 39)
		return -EINVAL;

	for (i = 0; i < 8; i++) {
		if (i && name[5 * i - 1] != ':')
			return -EINVAL;
		if (hex2bin(&id[2 * i], &name[5 * i], 2))
			return -EINVAL;
	}
	return 0;
}

static int @mod@_normalize_wwn(const char *name, char *buf)
{
	u8 id[16];
	int ret = @mod@_parse_wwn(name, id);

	if (!ret)
		snprintf(buf, @MOD@_NAMELEN, "0x%16phN", id);
	return ret;
}
]],
}

protocols.iSCSI = {
  proto_id = "SCSI_PROTOCOL_ISCSI",
  port = "tport",
  namelen = 224,
  example = "iqn.2026-01.org.example:disk",
  nexus_field = "\t/* 12 hexadecimal digits (RFC 7143, 11.12.5) */\n"
    .. "\tchar isid[13];\n",
  code = [[
/*
 * Reads an iSCSI name (RFC 7143, 4.2.7): iqn., eui. or naa., at most 223 bytes.
 * Capitals become small letters, as stringprep (RFC 3722) has it; letters
 * beyond ASCII are not accepted.
 */
static int @mod@_normalize_wwn(const char *name, char *buf)
{
	size_t len = strlen(name);
	size_t digits;
	size_t i;

	if (len < 5 || len >= @MOD@_NAMELEN)
		return -EINVAL;

	for (i = 0; i < len; i++) {
		if (!isascii(name[i]) ||
		    (!isalnum(name[i]) && !strchr("-.:", name[i])))
			return -EINVAL;
		buf[i] = tolower(name[i]);
	}
	buf[len] = '\0';

	if (!strncmp(buf, "iqn.", 4))
		return 0;

	digits = strspn(buf + 4, "0123456789abcdef");
	if (digits != len - 4)
		return -EINVAL;
	if (!strncmp(buf, "eui.", 4) && digits == 16)
		return 0;
	if (!strncmp(buf, "naa.", 4) && (digits == 16 || digits == 32))
		return 0;
	return -EINVAL;
}
]],
  nexus_code = [[
/*
 * An initiator port is a name and an ISID, written as in its TransportID
 * (SPC-4 table 508): NAME,i,0xISID. Without an ISID it is all zeroes.
 */
static int @mod@_name_nexus(struct @mod@_nexus *nexus, const char *name)
{
	const char *isid = strstr(name, ",i,0x");
	size_t len = isid ? isid - name : strlen(name);
	int i;

	if (len >= sizeof(nexus->initiator))
		return -EINVAL;

	isid = isid ? isid + 5 : "000000000000";
	if (strlen(isid) != 12)
		return -EINVAL;
	for (i = 0; i < 12; i++) {
		if (!isxdigit(isid[i]))
			return -EINVAL;
		nexus->isid[i] = tolower(isid[i]);
	}

	memcpy(nexus->initiator, name, len);
	return @mod@_normalize_wwn(nexus->initiator, nexus->initiator);
}
]],
}

--- The names, in the order in which help and messages list them.
protocols.names = { "FC", "SAS", "iSCSI", "SRP", "SBP" }

return protocols
