--- The members of target_core_fabric_ops that the generator can fill.
-- Data: for each the code or the value that makes a module load and stay whole.
-- What a kernel has beyond this gets a stub, see operations.lua.  Signatures
-- are never here: they come from the header of the kernel at hand.
--
-- An entry is a value (`.member = value`) or a body:
--   lines    the statements; @mod@ and the like are filled in by layout.lua
--   needs    the parameters that they use, by the names that roles.of gives
--   gives    "void", "number" or "pointer": what the function must return
--   about    the comment above the function
--   configfs true when it belongs to the configfs half
--   vital    true when no stub would do in its place
--   only     the one protocol that it is for

local members = {}

local function check(verdict, about)
  return { lines = { "return " .. verdict .. ";" }, needs = {},
           gives = "number", about = about }
end

members.known = {
  module = { value = "THIS_MODULE" },
  fabric_name = { value = "@MOD@_FABRIC_NAME", vital = true },
  tfc_wwn_attrs = { value = "@mod@_wwn_attrs", vital = true },
  tfc_tpg_base_attrs = { value = "@mod@_tpg_attrs", vital = true },
  default_submit_type = { value = "TARGET_QUEUE_SUBMIT" },

  tpg_get_wwn = {
    needs = { "se_tpg" }, gives = "pointer", vital = true,
    about = "The name of the target port, as SCSI reports it (VPD page 83h).",
    lines = {
      "struct @mod@_tpg *tpg = to_@mod@_tpg(se_tpg);",
      "",
      "return tpg->@port@->@port@_name;",
    },
  },
  tpg_get_tag = {
    needs = { "se_tpg" }, gives = "number", vital = true,
    about = "The number of the target portal group.",
    lines = { "return to_@mod@_tpg(se_tpg)->@port@_tpgt;" },
  },

  -- The safe side: only initiators with an ACL get in.
  tpg_check_demo_mode = check("0",
    "May initiators log in for which there is no directory under acls?"),
  tpg_check_demo_mode_cache = check("1",
    "Does the ACL of such an initiator outlive its session?"),
  tpg_check_demo_mode_write_protect = check("1",
    "Are all LUNs read-only for such an initiator?"),
  tpg_check_prod_mode_write_protect = check("0",
    "Is a LUN that is mapped in an ACL read-only until told otherwise?"),
  tpg_get_inst_index = check("1",
    "The instance that the SCSI MIB attributes (RFC 4455) show."),
  sess_get_index = check("0", "The index of the session in the SCSI MIB."),
  get_cmd_state = check("0",
    "The fabric's own state of a command; only ever printed."),

  check_stop_free = {
    needs = { "se_cmd" }, gives = "number", vital = true,
    about = "The core is done with the command: drop its reference.",
    lines = { "return target_put_sess_cmd(se_cmd);" },
  },
  release_cmd = {
    needs = { "se_cmd" }, gives = "void", vital = true,
    about = "The last reference to a command is gone.",
    lines = { "kfree(container_of(se_cmd, struct @mod@_cmd, se_cmd));" },
  },
  close_session = {
    needs = { "se_sess" }, gives = "void",
    about = "The ACL of the session's initiator is being removed, and waits "
      .. "until the session is gone.",
    lines = {
      "struct @mod@_tpg *tpg = to_@mod@_tpg(se_sess->se_tpg);",
      "",
      "mutex_lock(&tpg->nexus_lock);",
      "if (tpg->nexus && tpg->nexus->se_sess == se_sess)",
      "\t@mod@_free_nexus(tpg);",
      "mutex_unlock(&tpg->nexus_lock);",
    },
  },
  sess_get_initiator_sid = {
    needs = { "se_sess", "buf", "len" }, gives = "number", only = "iSCSI",
    about = "The ISID, which with the name makes the initiator port's "
      .. "TransportID (SPC-4 table 508).",
    lines = {
      "struct @mod@_nexus *nexus = se_sess->fabric_sess_ptr;",
      "",
      'return scnprintf(buf, len, "%s", nexus->isid);',
    },
  },
  write_pending = {
    needs = { "se_cmd" }, gives = "number", vital = true,
    about = "The core has room for the data of a write. Fetch it, then "
      .. "execute; here there is nothing to fetch.",
    lines = { "target_execute_cmd(se_cmd);", "return 0;" },
  },
  set_default_node_attributes = {
    needs = {}, gives = "void", lines = {},
    about = "An ACL is being made; set what the fabric keeps with it.",
  },
  queue_data_in = check("0", "Send the data of a read, and its status."),
  queue_status = check("0", "Send the status of a command, with sense data."),
  queue_tm_rsp = {
    needs = {}, gives = "void", lines = {},
    about = "Send the answer to a task management request.",
  },
  aborted_task = {
    needs = {}, gives = "void", lines = {},
    about = "A command was aborted: give back what was reserved for its "
      .. "answer.",
  },
  fabric_init_nodeacl = {
    needs = { "name" }, gives = "number",
    about = "A directory under acls: the initiator's name becomes its "
      .. "TransportID, so it must be spelled as the core spells those.",
    lines = { "return @mod@_check_wwn(name);" },
  },

  fabric_make_wwn = {
    configfs = true, vital = true, needs = { "name" }, gives = "pointer",
    about = "mkdir target/@fabric@/NAME",
    lines = {
      "struct @mod@_@port@ *@port@;",
      "int ret;",
      "",
      "ret = @mod@_check_wwn(name);",
      "if (ret)",
      "\treturn ERR_PTR(ret);",
      "",
      "@port@ = kzalloc(sizeof(*@port@), GFP_KERNEL);",
      "if (!@port@)",
      "\treturn ERR_PTR(-ENOMEM);",
      "",
      "strscpy(@port@->@port@_name, name, sizeof(@port@->@port@_name));",
      "@store_wwn@",
      "return &@port@->@port@_wwn;",
    },
  },
  fabric_drop_wwn = {
    configfs = true, vital = true, needs = { "wwn" }, gives = "void",
    about = "rmdir target/@fabric@/NAME",
    lines = {
      "kfree(container_of(wwn, struct @mod@_@port@, @port@_wwn));",
    },
  },
  fabric_make_tpg = {
    configfs = true, vital = true, needs = { "wwn", "name" },
    gives = "pointer",
    about = "mkdir target/@fabric@/NAME/tpgt_N",
    lines = {
      "struct @mod@_tpg *tpg;",
      "u16 tpgt;",
      "int ret;",
      "",
      'if (strncmp(name, "tpgt_", 5) || kstrtou16(name + 5, 10, &tpgt))',
      "\treturn ERR_PTR(-EINVAL);",
      "",
      "tpg = kzalloc(sizeof(*tpg), GFP_KERNEL);",
      "if (!tpg)",
      "\treturn ERR_PTR(-ENOMEM);",
      "",
      "mutex_init(&tpg->nexus_lock);",
      "tpg->@port@ = container_of(wwn, struct @mod@_@port@, @port@_wwn);",
      "tpg->@port@_tpgt = tpgt;",
      "ret = core_tpg_register(wwn, &tpg->se_tpg, @proto_id@);",
      "if (ret < 0) {",
      "\tkfree(tpg);",
      "\treturn ERR_PTR(ret);",
      "}",
      "",
      "return &tpg->se_tpg;",
    },
  },
  fabric_enable_tpg = {
    configfs = true, needs = {}, gives = "number",
    about = "A write to the group's enable file. Bring the port up or down "
      .. "here.",
    lines = { "return 0;" },
  },
  fabric_drop_tpg = {
    configfs = true, vital = true, needs = { "se_tpg" }, gives = "void",
    about = "rmdir target/@fabric@/NAME/tpgt_N",
    lines = {
      "struct @mod@_tpg *tpg = to_@mod@_tpg(se_tpg);",
      "",
      "@mod@_drop_nexus(tpg);",
      "core_tpg_deregister(se_tpg);",
      "kfree(tpg);",
    },
  },
}

--- Members that a module may well leave alone; the generated table names them.
members.optional = {}
for name in ([[
  fabric_alias node_acl_size max_data_sg_nents tpg_get_default_depth
  tpg_check_demo_mode_login_only tpg_check_prot_fabric_only
  sess_get_initiator_sid add_wwn_groups fabric_post_link fabric_pre_unlink
  fabric_post_unlink fabric_make_np fabric_drop_np tfc_discovery_attrs
  tfc_tpg_np_base_attrs tfc_tpg_attrib_attrs tfc_tpg_auth_attrs
  tfc_tpg_param_attrs tfc_tpg_nacl_base_attrs tfc_tpg_nacl_attrib_attrs
  tfc_tpg_nacl_auth_attrs tfc_tpg_nacl_param_attrs
  write_pending_must_be_called direct_submit_supp
]]):gmatch("%S+") do
  members.optional[name] = true
end

--- What registration has been seen to insist on, 5.10 to 6.12.  It stands in
-- for the sources where only headers are there: a kernel that insists on fewer
-- takes no harm from the rest.
members.insisted = {}
for name in ([[
  fabric_name tpg_get_wwn tpg_get_tag tpg_check_demo_mode
  tpg_check_demo_mode_cache tpg_check_demo_mode_write_protect
  tpg_check_prod_mode_write_protect tpg_get_inst_index check_stop_free
  release_cmd sess_get_index write_pending set_default_node_attributes
  get_cmd_state queue_data_in queue_status queue_tm_rsp aborted_task
  fabric_make_wwn fabric_drop_wwn fabric_make_tpg fabric_drop_tpg
]]):gmatch("%S+") do
  members.insisted[#members.insisted + 1] = name
end

return members
