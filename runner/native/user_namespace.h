/* Working as an ordinary user, in a user namespace whose root that user is (user_namespaces(7)). */
#ifndef VARVE_USER_NAMESPACE_H
#define VARVE_USER_NAMESPACE_H

#include <stdbool.h>

/* Whether root here is not the machine's root. */
bool is_in_user_namespace(void);

/* The user that this process works for: of root of a user namespace, the one who made it. */
unsigned calling_user(void);

/* Whether supplementary groups may be set: not where the only id that is mapped is the user's own. */
bool may_set_groups(void);

/* Whether this group is one that files and processes here may have. */
bool is_group_mapped(unsigned group);

#endif
