// Where the element e of a launch for the weight gradient lies: [i * N + j][c / width][timestep][tile][c % width]. Lanes run
// along channels, as they will when these operands are read; vectors of images are taken apart when they are stored.
      let channel = e % p.channels;
      let tile = e / p.channels;
      let image = tile % p.n;
      let columns = p.steps * tiles * VEC;
      let at = (channel / p.width * columns + (group.y * tiles + tile) * VEC) * p.width + channel % p.width;
      let stride = (p.channels + p.width - 1u) / p.width * columns * p.width;
