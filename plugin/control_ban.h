/* control_ban.h - commands about bans. Each returns NULL when done, else what was wrong with it;
 * the text lives until the next command. The caller has authorised them. */
#ifndef HLT_CONTROL_BAN_H
#define HLT_CONTROL_BAN_H

#include <cjson/cJSON.h>

#include "plugin.h"

/* {"command":"addBan","address"?,"deviceId"?,"duration"?,"reason"?} */
const char *hlt_command_add_ban(struct plugin *self, struct hlt_now now, const char *author,
                                const cJSON *command);
/* {"command":"removeBan","address"?,"deviceId"?} */
const char *hlt_command_remove_ban(struct plugin *self, struct hlt_now now, const cJSON *command);
/* {"command":"listBans","after"?,"limit"?}; *data: {"bans":[...],"total":N,"next"?}, owned by the
 * caller. */
const char *hlt_command_list_bans(struct plugin *self, struct hlt_now now, const cJSON *command,
                                  cJSON **data);

#endif
