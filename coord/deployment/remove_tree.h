// Removing a directory with what is in it, in a process that was forked from a threaded one and may
// not allocate.
#ifndef COORD_DEPLOYMENT_REMOVE_TREE_H_
#define COORD_DEPLOYMENT_REMOVE_TREE_H_

namespace coord::internal::embedded {

// Removes `path`, what is in it, and directories in it three deep (a server makes one level).
// Follows no symbolic link. Async-signal-safe. What cannot be removed stays.
void RemoveTree(const char* path);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_REMOVE_TREE_H_
