// SPDX-License-Identifier: GPL-2.0
/*
 * tcm_lesson: hands one command at a time from a debugfs file to a LUN.
 *
 * Every target portal group has a file, tcm_lesson,NAME,tpgt_N. A line written
 * to it is a command: the LUN, how many bytes to transfer, the CDB, and for a
 * write the bytes that it sends, the last two in hexadecimal. What came of it
 * is read from the file.
 *
 *	echo '0 36 120000002400' >tcm_lesson,naa.5001405123456789,tpgt_1
 *	cat tcm_lesson,naa.5001405123456789,tpgt_1
 *	status 00
 *	data 000006123d0000024c494f2d4f5247...
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <scsi/scsi_proto.h>
#include <target/target_core_base.h>
#include <target/target_core_fabric.h>

#include "tcm_lesson_fabric.h"

#define MOST_DATA 4096
#define LONGEST_LINE (2 * MOST_DATA + 128)
/* Fixed format sense data (SPC-4 table 53) up to the sense key specific bytes */
#define SENSE_SHOWN 18

struct request {
	unsigned long long lun;
	u32 length;
	u8 cdb[TCM_MAX_COMMAND_SIZE];
	enum dma_data_direction direction;
};

/* Reads a line; cmd gets its data. */
static int parse(const char *line, struct request *request,
		 struct tcm_lesson_cmd *cmd)
{
	char cdb[2 * TCM_MAX_COMMAND_SIZE + 1];
	int data = 0;

	BUILD_BUG_ON(sizeof(cdb) != 65);	/* %64s and the final NUL */
	if (sscanf(line, "%llu %u %64s %n", &request->lun, &request->length,
		   cdb, &data) < 3)
		return -EINVAL;
	if (request->length > MOST_DATA || strlen(cdb) % 2 ||
	    hex2bin(request->cdb, cdb, strlen(cdb) / 2))
		return -EINVAL;

	cmd->length = request->length;
	cmd->data = kzalloc(MOST_DATA, GFP_KERNEL);
	if (!cmd->data)
		return -ENOMEM;

	if (!request->length) {
		request->direction = DMA_NONE;
	} else if (!line[data]) {
		request->direction = DMA_FROM_DEVICE;
	} else {
		request->direction = DMA_TO_DEVICE;
		if (strlen(line + data) != 2 * request->length ||
		    hex2bin(cmd->data, line + data, request->length))
			return -EINVAL;
	}
	return 0;
}

/* What came of a command, as text. */
static char *tell(struct tcm_lesson_cmd *cmd)
{
	char *text = kzalloc(LONGEST_LINE, GFP_KERNEL);
	char *at = text;

	if (!text)
		return NULL;

	at += sprintf(at, "status %02x\n", cmd->se_cmd.scsi_status);
	if (cmd->se_cmd.scsi_status == SAM_STAT_CHECK_CONDITION)
		at += sprintf(at, "sense %*phN\n", SENSE_SHOWN, cmd->sense);
	if (cmd->received) {
		at += sprintf(at, "data ");
		at = bin2hex(at, cmd->data, cmd->received);
		*at = '\n';
	}
	return text;
}

/* Runs one command to its end. */
static int run(struct tcm_lesson_tpg *tpg, const char *line)
{
	struct request request = {};
	struct tcm_lesson_cmd *cmd;
	int ret;

	cmd = kzalloc(sizeof(*cmd), GFP_KERNEL);
	if (!cmd)
		return -ENOMEM;
	init_completion(&cmd->answered);
	ret = parse(line, &request, cmd);
	if (ret)
		goto free_cmd;

	/* With the lock held, the session stays until the command has ended. */
	mutex_lock(&tpg->nexus_lock);
	if (!tpg->nexus) {
		mutex_unlock(&tpg->nexus_lock);
		ret = -ENOTCONN;
		goto free_cmd;
	}

	/*
	 * ACK_KREF: the core drops one reference when it has answered; the
	 * other keeps the command until it has been told of here.
	 */
	target_submit_cmd(&cmd->se_cmd, tpg->nexus->se_sess, request.cdb,
			  cmd->sense, request.lun, request.length,
			  TCM_SIMPLE_TAG, request.direction,
			  TARGET_SCF_ACK_KREF);
	wait_for_completion(&cmd->answered);

	kfree(tpg->answer);
	tpg->answer = tell(cmd);
	ret = tpg->answer ? 0 : -ENOMEM;
	target_put_sess_cmd(&cmd->se_cmd);
	mutex_unlock(&tpg->nexus_lock);
	return ret;

free_cmd:
	kfree(cmd->data);
	kfree(cmd);
	return ret;
}

static ssize_t file_write(struct file *file, const char __user *from,
			  size_t count, loff_t *at)
{
	char *line;
	int ret;

	if (count > LONGEST_LINE)
		return -E2BIG;
	line = memdup_user_nul(from, count);
	if (IS_ERR(line))
		return PTR_ERR(line);

	ret = run(file->private_data, strim(line));
	kfree(line);
	return ret ? ret : count;
}

static ssize_t file_read(struct file *file, char __user *to, size_t count,
			 loff_t *at)
{
	struct tcm_lesson_tpg *tpg = file->private_data;
	ssize_t ret = 0;

	mutex_lock(&tpg->nexus_lock);
	if (tpg->answer)
		ret = simple_read_from_buffer(to, count, at, tpg->answer,
					      strlen(tpg->answer));
	mutex_unlock(&tpg->nexus_lock);
	return ret;
}

static const struct file_operations file_ops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = file_read,
	.write = file_write,
	.llseek = default_llseek,
};

/* Without the file there are no commands, which is no error of the group's. */
void tcm_lesson_add_file(struct tcm_lesson_tpg *tpg)
{
	char *name = kasprintf(GFP_KERNEL, "tcm_lesson,%s,tpgt_%u",
			       tcm_lesson_tpg_get_wwn(&tpg->se_tpg),
			       tcm_lesson_tpg_get_tag(&tpg->se_tpg));

	if (!name)
		return;
	tpg->file = debugfs_create_file(name, 0600, NULL, tpg, &file_ops);
	kfree(name);
}

/* Waits for those who are using the file. */
void tcm_lesson_remove_file(struct tcm_lesson_tpg *tpg)
{
	debugfs_remove(tpg->file);
	kfree(tpg->answer);
}
