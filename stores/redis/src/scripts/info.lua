-- What the server tells of itself: of the one that holds our keys, in a cluster too.
return call('INFO')
