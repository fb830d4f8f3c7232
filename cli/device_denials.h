/* device_denials.h - the verb `haltere device denials`. */
#ifndef HLT_DEVICE_DENIALS_H
#define HLT_DEVICE_DENIALS_H

/* argv[0] is the verb. Returns an exit code. */
int hlt_device_denials(int argc, char **argv);

#endif
