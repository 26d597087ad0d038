-- Every node.
return call('HGETALL', P .. 'nodes')
