/* Commands that talk to Redis or providers: one function on a fiber, over the same code as the workers. */
#ifndef FCGI_CMD_RUN_H
#define FCGI_CMD_RUN_H

#include "fcgi/config.h"

struct task;

/*
 * Read the settings, set up an app, run fn(task, arg) on a fiber and return what it returns; CMD_SETTINGS with
 * all mistakes printed when there are some. The task has an app and an arena. With CONFIG_ALL the app uses Redis as the
 * workers do, otherwise with REDIS_ADMIN_URL. The arena is large, and the program ends when it is exhausted.
 */
int cmd_run(enum config_need need, int (*fn)(struct task *task, void *arg), void *arg);

#endif
