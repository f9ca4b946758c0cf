--- Kernels for the generator's specs: header excerpts, and trees made of them.
-- The excerpts have the shape of the real headers, told in few words; the real
-- ones are the business of compile_spec.lua.

local kernels = {}

--- The operations as Linux 5.10 has them: no fabric_enable_tpg, no
-- fabric_post_unlink, sessions are stopped by another name.
kernels.V5_10 = [[
#ifndef TARGET_CORE_FABRIC_H
#define TARGET_CORE_FABRIC_H

struct target_core_fabric_ops {
	struct module *module;
	const char *fabric_alias, *fabric_name;
	size_t node_acl_size;
	u32 max_data_sg_nents;
	char *(*tpg_get_wwn)(struct se_portal_group *);
	u16 (*tpg_get_tag)(struct se_portal_group *);
	u32 (*tpg_get_default_depth)(struct se_portal_group *);
	int (*tpg_check_demo_mode)(struct se_portal_group *);
	int (*tpg_check_demo_mode_cache)(struct se_portal_group *);
	int (*tpg_check_demo_mode_write_protect)(struct se_portal_group *);
	int (*tpg_check_prod_mode_write_protect)(struct se_portal_group *);
	int (*tpg_check_demo_mode_login_only)(struct se_portal_group *);
	int (*tpg_check_prot_fabric_only)(struct se_portal_group *);
	u32 (*tpg_get_inst_index)(struct se_portal_group *);
	int (*check_stop_free)(struct se_cmd *);
	void (*release_cmd)(struct se_cmd *);
	void (*close_session)(struct se_session *);
	u32 (*sess_get_index)(struct se_session *);
	u32 (*sess_get_initiator_sid)(struct se_session *, unsigned char *, u32);
	int (*write_pending)(struct se_cmd *);
	void (*set_default_node_attributes)(struct se_node_acl *);
	int (*get_cmd_state)(struct se_cmd *);
	int (*queue_data_in)(struct se_cmd *);
	int (*queue_status)(struct se_cmd *);
	void (*queue_tm_rsp)(struct se_cmd *);
	void (*aborted_task)(struct se_cmd *);
	struct se_wwn *(*fabric_make_wwn)(struct target_fabric_configfs *,
		struct config_group *, const char *);
	void (*fabric_drop_wwn)(struct se_wwn *);
	void (*add_wwn_groups)(struct se_wwn *);
	struct se_portal_group *(*fabric_make_tpg)(struct se_wwn *,
		const char *);
	void (*fabric_drop_tpg)(struct se_portal_group *);
	int (*fabric_post_link)(struct se_portal_group *, struct se_lun *);
	void (*fabric_pre_unlink)(struct se_portal_group *, struct se_lun *);
	struct se_tpg_np *(*fabric_make_np)(struct se_portal_group *,
		struct config_group *, const char *);
	void (*fabric_drop_np)(struct se_tpg_np *);
	int (*fabric_init_nodeacl)(struct se_node_acl *, const char *);
	struct configfs_attribute **tfc_discovery_attrs, **tfc_wwn_attrs;
	struct configfs_attribute **tfc_tpg_base_attrs;
	bool write_pending_must_be_called;
};

void target_sess_cmd_list_set_waiting(struct se_session *);
void target_wait_for_sess_cmds(struct se_session *);
#endif
]]

--- The same with text put before the end of the structure.
function kernels.with(more)
  return (kernels.V5_10:gsub("\n};", function() return "\n" .. more .. "\n};" end))
end

--- The same with one declaration exchanged, or taken away.  Raises when it is
-- not there.
function kernels.changed(from, to)
  local at, last = kernels.V5_10:find(from, 1, true)
  assert(at, from)
  return kernels.V5_10:sub(1, at - 1) .. to .. kernels.V5_10:sub(last + 1)
end

local made = {}

--- Makes a directory with these files, { ["path/of/file"] = text }; removed by
-- kernels.clean().
function kernels.tree(files)
  local root = os.tmpname()
  assert(os.remove(root))
  made[#made + 1] = root
  for path, text in pairs(files) do
    local full = root .. "/" .. path
    assert(os.execute(("mkdir -p '%s'"):format(full:match("^(.*)/"))))
    local file <close> = assert(io.open(full, "wb"))
    file:write(text)
  end
  return root
end

--- A directory of headers with this target_core_fabric.h.
function kernels.headers(text)
  return kernels.tree { ["include/target/target_core_fabric.h"] = text }
end

function kernels.clean()
  for _, root in ipairs(made) do
    assert(os.execute(("rm -rf '%s'"):format(root)))
  end
  made = {}
end

function kernels.read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

--- The names in a directory, in order; those that begin with a dot, too.
function kernels.names(path)
  local pipe <close> = assert(io.popen(("ls -A '%s'"):format(path)))
  return pipe:read("a")
end

return kernels
