// The five entities of PayTrack: their fields, how they read, and what they refer to.

const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const amountText = (value) => money.format(value ?? 0);
export const today = () => new Date().toISOString().slice(0, 10);

/** Order is that of sending: parents first. `one` and `many` are what a person calls it. */
export const entities = {
  suppliers: {
    one: 'supplier',
    many: 'Suppliers',
    order: [['name', 'asc']],
    fields: [
      { name: 'name', label: 'Name', type: 'text', required: true, maxlength: 120 },
      { name: 'phone', label: 'Phone', type: 'tel', maxlength: 40, hint: 'Digits, spaces and a leading +. The server checks.' },
      { name: 'note', label: 'Note', type: 'text', maxlength: 500 },
    ],
    title: ({ name }) => name,
    facts: ({ phone, note }) => [phone, note],
  },
  products: {
    one: 'product',
    many: 'Products',
    order: [['name', 'asc']],
    fields: [
      { name: 'name', label: 'Name', type: 'text', required: true, maxlength: 120 },
      { name: 'unit', label: 'Unit', type: 'text', required: true, maxlength: 20, initial: () => 'kg' },
    ],
    title: ({ name }) => name,
    facts: ({ unit }, { rateOf }, record) => [`by the ${unit}`, rateOf(record.id) !== null && `${amountText(rateOf(record.id))} a ${unit}`],
  },
  rates: {
    one: 'rate',
    many: 'Rates',
    order: [['valid_from', 'desc']],
    fields: [
      { name: 'product_id', label: 'Product', type: 'choice', of: 'products', required: true },
      { name: 'price', label: 'Price for one unit', type: 'number', required: true, min: 0, step: '0.01' },
      { name: 'valid_from', label: 'Valid from', type: 'date', required: true, initial: today },
    ],
    title: ({ product_id: product }, { nameOf }) => nameOf('products', product),
    facts: ({ valid_from: from }) => [`from ${from}`],
    end: ({ price }) => amountText(price),
  },
  collections: {
    one: 'collection',
    many: 'Collections',
    order: [['date', 'desc']],
    fields: [
      { name: 'supplier_id', label: 'Supplier', type: 'choice', of: 'suppliers', required: true },
      { name: 'product_id', label: 'Product', type: 'choice', of: 'products', required: true },
      { name: 'quantity', label: 'Quantity', type: 'number', required: true, min: 0, step: 'any' },
      { name: 'date', label: 'Date', type: 'date', required: true, initial: today },
    ],
    title: ({ supplier_id: supplier }, { nameOf }) => nameOf('suppliers', supplier),
    facts: ({ quantity, product_id: product, date }, { nameOf, unitOf }) => [`${quantity} ${unitOf(product)} ${nameOf('products', product)}`, date],
    end: (record, { worth }) => amountText(worth(record)),
  },
  payments: {
    one: 'payment',
    many: 'Payments',
    order: [['date', 'desc']],
    fields: [
      { name: 'supplier_id', label: 'Supplier', type: 'choice', of: 'suppliers', required: true },
      { name: 'amount', label: 'Amount', type: 'number', required: true, min: 0, step: '0.01' },
      { name: 'date', label: 'Date', type: 'date', required: true, initial: today },
      { name: 'method', label: 'Method', type: 'choice', choices: [['cash', 'Cash'], ['bank', 'Bank transfer'], ['mobile', 'Mobile money']], required: true },
    ],
    title: ({ supplier_id: supplier }, { nameOf }) => nameOf('suppliers', supplier),
    facts: ({ method, date }) => [{ cash: 'Cash', bank: 'Bank transfer', mobile: 'Mobile money' }[method] ?? method, date],
    end: ({ amount }) => amountText(amount),
  },
};

export const fieldName = (field, collection) => entities[collection]?.fields.find(({ name }) => name === field)?.label ?? field;

/** What the records say together. All of it comes from this device. */
export function ledger(rows) {
  const byId = (collection) => new Map((rows[collection] ?? []).map((row) => [row.id, row]));
  const [suppliers, products] = [byId('suppliers'), byId('products')];
  const names = { suppliers, products };
  const newest = new Map();
  for (const rate of rows.rates ?? []) {
    if (rate.valid_from > today()) continue;
    const known = newest.get(rate.product_id);
    if (!known || known.valid_from < rate.valid_from) newest.set(rate.product_id, rate);
  }
  const rateOf = (product) => newest.get(product)?.price ?? null;
  const worth = ({ product_id: product, quantity }) => (rateOf(product) ?? 0) * (quantity ?? 0);
  const sum = (list, of) => (list ?? []).reduce((total, one) => total + of(one), 0);
  return {
    nameOf: (collection, id) => names[collection]?.get(id)?.name ?? 'Unknown',
    unitOf: (product) => products.get(product)?.unit ?? '',
    rateOf,
    worth,
    owed: (supplier) => sum((rows.collections ?? []).filter(({ supplier_id: id }) => id === supplier), worth) - sum((rows.payments ?? []).filter(({ supplier_id: id }) => id === supplier), ({ amount }) => amount ?? 0),
    collected: sum(rows.collections, worth),
    paid: sum(rows.payments, ({ amount }) => amount ?? 0),
  };
}

/** A company to begin with, as one transaction: all of it or none. */
export function sample(company) {
  const id = () => crypto.randomUUID();
  const scope = { company_id: company };
  const suppliers = ['Amina Uwase', 'Jean Habimana', 'Kigali Dairy Co-op'].map((name, i) => ({ id: id(), ...scope, name, phone: `+250 788 000 00${i + 1}`, note: '' }));
  const products = [['Milk', 'l', 0.62], ['Tea leaves', 'kg', 1.35]].map(([name, unit, price]) => ({ record: { id: id(), ...scope, name, unit }, price }));
  const date = today();
  return {
    suppliers,
    products: products.map(({ record }) => record),
    rates: products.map(({ record, price }) => ({ id: id(), ...scope, product_id: record.id, price, valid_from: '2026-01-01' })),
    collections: suppliers.map((supplier, i) => ({ id: id(), ...scope, supplier_id: supplier.id, product_id: products[i % 2].record.id, quantity: 40 + 25 * i, date })),
    payments: [{ id: id(), ...scope, supplier_id: suppliers[0].id, amount: 20, date, method: 'mobile' }],
  };
}
