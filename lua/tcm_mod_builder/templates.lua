--- The text of the generated files, with @placeholders@ for what varies.
-- The functions of the operations table are not here (members.lua), nor is what
-- differs by protocol (protocols.lua).  The generated code is GPL-2.0, as
-- kernel modules must be.

local templates = {}

templates.base_h = [[
/* SPDX-License-Identifier: GPL-2.0 */
#ifndef @MOD@_BASE_H
#define @MOD@_BASE_H

#include <linux/mutex.h>
#include <target/target_core_base.h>

#define @MOD@_VERSION "v0.1"
/* The module's directory in configfs, under target/ */
#define @MOD@_FABRIC_NAME "@fabric@"
/* The longest name of a port, with its final NUL */
#define @MOD@_NAMELEN @namelen@

/* A target port: target/@fabric@/NAME */
struct @mod@_@port@ {
@field@
	/* The name as configfs and SCSI show it */
	char @port@_name[@MOD@_NAMELEN];
	struct se_wwn @port@_wwn;
};

/* A session: one initiator port, logged in to one target portal group */
struct @mod@_nexus {
	char initiator[@MOD@_NAMELEN];
@nexus_field@
	struct se_session *se_sess;
};

/* A target portal group: target/@fabric@/NAME/tpgt_N */
struct @mod@_tpg {
	u16 @port@_tpgt;
	struct @mod@_@port@ *@port@;
	/* Held while the nexus is made, shown or dropped */
	struct mutex nexus_lock;
	struct @mod@_nexus *nexus;
	struct se_portal_group se_tpg;
};

/*
 * A command. The data path allocates one with kzalloc() for each that arrives;
 * release_cmd frees it.
 */
struct @mod@_cmd {
	struct se_cmd se_cmd;
	unsigned char sense[TRANSPORT_SENSE_BUFFER];
};

static inline struct @mod@_tpg *to_@mod@_tpg(struct se_portal_group *se_tpg)
{
	return container_of(se_tpg, struct @mod@_tpg, se_tpg);
}

#endif
]]

templates.fabric_h = [[
/* SPDX-License-Identifier: GPL-2.0 */
#ifndef @MOD@_FABRIC_H
#define @MOD@_FABRIC_H

#include "@mod@_base.h"

@parse@
int @mod@_check_wwn(const char *name);

int @mod@_make_nexus(struct @mod@_tpg *tpg, const char *name);
int @mod@_drop_nexus(struct @mod@_tpg *tpg);

]]

templates.fabric_c = [[
// SPDX-License-Identifier: GPL-2.0
/*
 * @mod@: the names of ports, sessions, and the data path, which is empty:
 * commands have to be received, submitted and answered here.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <target/target_core_base.h>
#include <target/target_core_fabric.h>

#include "@mod@_fabric.h"

]]

templates.names = [[

/*
 * The target core compares names as text, and makes TransportIDs of them. So
 * there is one spelling of each; the others are refused.
 */
int @mod@_check_wwn(const char *name)
{
	char spelled[@MOD@_NAMELEN];
	int ret = @mod@_normalize_wwn(name, spelled);

	if (ret) {
		pr_err("%s names no @protocol@ port; one is @example@\n", name);
		return ret;
	}
	if (strcmp(name, spelled)) {
		pr_err("%s has to be written %s\n", name, spelled);
		return -EINVAL;
	}
	return 0;
}

]]

templates.nexus = [[

/*
 * Logs an initiator in. Its name need not be spelled as in acls; it must
 * have an ACL there.
 */
int @mod@_make_nexus(struct @mod@_tpg *tpg, const char *name)
{
	struct @mod@_nexus *nexus;
	int ret;

	nexus = kzalloc(sizeof(*nexus), GFP_KERNEL);
	if (!nexus)
		return -ENOMEM;

	ret = @mod@_name_nexus(nexus, name);
	if (ret)
		goto free_nexus;

	mutex_lock(&tpg->nexus_lock);
	if (tpg->nexus) {
		ret = -EEXIST;
		goto unlock;
	}
	nexus->se_sess = target_setup_session(&tpg->se_tpg, 0, 0,
					      TARGET_PROT_NORMAL,
					      nexus->initiator, nexus, NULL);
	if (IS_ERR(nexus->se_sess)) {
		ret = PTR_ERR(nexus->se_sess);
		goto unlock;
	}
	tpg->nexus = nexus;
	mutex_unlock(&tpg->nexus_lock);
	return 0;

unlock:
	mutex_unlock(&tpg->nexus_lock);
free_nexus:
	kfree(nexus);
	return ret;
}

/* Waits for the commands of the session to end.  nexus_lock is held. */
static void @mod@_free_nexus(struct @mod@_tpg *tpg)
{
	struct @mod@_nexus *nexus = tpg->nexus;

	tpg->nexus = NULL;
	@stop_session@(nexus->se_sess);
	target_wait_for_sess_cmds(nexus->se_sess);
	target_remove_session(nexus->se_sess);
	kfree(nexus);
}

int @mod@_drop_nexus(struct @mod@_tpg *tpg)
{
	int ret = -ENODEV;

	mutex_lock(&tpg->nexus_lock);
	if (tpg->nexus) {
		@mod@_free_nexus(tpg);
		ret = 0;
	}
	mutex_unlock(&tpg->nexus_lock);
	return ret;
}

]]

templates.configfs_c = [[
// SPDX-License-Identifier: GPL-2.0
/*
 * @mod@: what appears under target/@fabric@ in configfs, and the module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/configfs.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <scsi/scsi_proto.h>
#include <target/target_core_base.h>
#include <target/target_core_fabric.h>

#include "@mod@_fabric.h"

]]

templates.attributes = [[

/* The initiator that is logged in; ENODEV without one */
static ssize_t @mod@_nexus_show(struct config_item *item, char *page)
{
	struct @mod@_tpg *tpg = to_@mod@_tpg(to_tpg(item));
	ssize_t ret = -ENODEV;

	mutex_lock(&tpg->nexus_lock);
	if (tpg->nexus)
		ret = sysfs_emit(page, "%s\n", tpg->nexus->initiator);
	mutex_unlock(&tpg->nexus_lock);
	return ret;
}

/* A name logs that initiator in, NULL logs it out. */
static ssize_t @mod@_nexus_store(struct config_item *item, const char *page, size_t count)
{
	struct @mod@_tpg *tpg = to_@mod@_tpg(to_tpg(item));
	char *copy, *name;
	int ret;

	copy = kstrndup(page, count, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;

	name = strim(copy);
	if (!strcmp(name, "NULL"))
		ret = @mod@_drop_nexus(tpg);
	else
		ret = @mod@_make_nexus(tpg, name);
	kfree(copy);
	return ret ? ret : count;
}

CONFIGFS_ATTR(@mod@_, nexus);

static struct configfs_attribute *@mod@_tpg_attrs[] = {
	&@mod@_attr_nexus,
	NULL,
};

static ssize_t @mod@_version_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%s fabric module %s\n", KBUILD_MODNAME, @MOD@_VERSION);
}

CONFIGFS_ATTR_RO(@mod@_, version);

static struct configfs_attribute *@mod@_wwn_attrs[] = {
	&@mod@_attr_version,
	NULL,
};

]]

templates.module = [[

static int __init @mod@_init(void)
{
	int ret = target_register_template(&@mod@_ops);

	if (ret)
		return ret;

	pr_info("@protocol@ fabric, to be configured at target/%s\n", @MOD@_FABRIC_NAME);
	return 0;
}

static void __exit @mod@_exit(void)
{
	target_unregister_template(&@mod@_ops);
}

module_init(@mod@_init);
module_exit(@mod@_exit);

MODULE_DESCRIPTION("@protocol@ fabric for the target core");
MODULE_LICENSE("GPL");
]]

-- Out of the tree: Kbuild says what to build, Makefile how to call kbuild.
templates.kbuild = [[
# SPDX-License-Identifier: GPL-2.0
obj-m := @mod@.o
@mod@-y := @mod@_fabric.o @mod@_configfs.o
]]

templates.outside_makefile = [[
# SPDX-License-Identifier: GPL-2.0
# KDIR: the build directory of the kernel that the module is for.
KDIR ?= /lib/modules/$(shell uname -r)/build

modules modules_install clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $@

.PHONY: modules modules_install clean
]]

-- In the tree.
templates.inside_makefile = [[
# SPDX-License-Identifier: GPL-2.0
@mod@-y := @mod@_fabric.o @mod@_configfs.o
obj-$(CONFIG_@MOD@) += @mod@.o
]]

templates.kconfig = [[
# SPDX-License-Identifier: GPL-2.0
config @MOD@
	tristate "@MOD@ fabric module"
	depends on TARGET_CORE && CONFIGFS_FS
	default n
	help
	  Say Y or M here for the @MOD@ fabric module, a target
	  that initiators reach over @protocol@. It is configured in configfs,
	  in the directory target/@fabric@.

	  The module is called @mod@ when it is built as one.
	  If unsure, say N.
]]

return templates
