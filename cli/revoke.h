/* revoke.h - verbs of `haltere token` that live in a file of their own. */
#ifndef HLT_REVOKE_H
#define HLT_REVOKE_H

/* Each as in struct hlt_cli_verb. */
int hlt_token_revoke(int argc, char **argv);
int hlt_token_unrevoke(int argc, char **argv);
int hlt_token_revocations(int argc, char **argv);

#endif
