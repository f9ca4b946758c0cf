/* log.h - one line on stderr for whoever operates this.
 *
 * Where stderr is the journal (JOURNAL_STREAM names it) a line starts with its
 * "<N>" priority; on a terminal it has the time, and colour unless NO_COLOR is
 * set.  Lines of all threads come out whole.
 */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_ERR_ = 3, LOG_WARN_ = 4, LOG_INFO_ = 6, LOG_DEBUG_ = 7 };

/* Lines above this level are dropped; LOG_INFO_ at start. */
void log_set_level(enum log_level level);

/* `who` names the device or part ("user_0/disk1", "control"); NULL: nobody in
 * particular.  `text` may span lines: each gets the prefix.  Control
 * characters come out as "?", since the text may be a stranger's.  Any thread;
 * keeps errno; waits as long as whoever reads stderr makes it. */
void log_line(enum log_level level, const char *who, const char *fmt, ...)
  __attribute__((format(printf, 3, 4)));

#define log_error(who, ...) log_line(LOG_ERR_, who, __VA_ARGS__)
#define log_warn(who, ...) log_line(LOG_WARN_, who, __VA_ARGS__)
#define log_info(who, ...) log_line(LOG_INFO_, who, __VA_ARGS__)
#define log_debug(who, ...) log_line(LOG_DEBUG_, who, __VA_ARGS__)

#endif
