// `.npy` files (NumPy's format, versions 1 and 2) as typed arrays.

const TYPES = {
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i8": BigInt64Array,
  "<i4": Int32Array,
  "|u1": Uint8Array,
};

// {shape, dtype, values}: values are a typed array in C order; 64-bit integers become numbers.
// Throws TypeError for what is not such a file.
export function parseNpy(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0) !== 0x934e554d) throw new TypeError("Not a .npy file.");
  const long = view.getUint8(6) > 1;
  const headerLength = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = long ? 12 : 10;
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, headerLength));
  const dtype = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const dimensions = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (!TYPES[dtype] || dimensions === undefined || /'fortran_order':\s*True/.test(header)) {
    throw new TypeError(`A .npy file with this header is not understood: ${header.trim()}`);
  }
  const shape = dimensions.split(",").filter((part) => part.trim()).map(Number);
  // Headers are padded so that the data is aligned.
  let values = new TYPES[dtype](buffer, start + headerLength);
  if (values instanceof BigInt64Array) values = Float64Array.from(values, Number);
  return { shape, dtype, values };
}
