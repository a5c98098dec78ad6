//! Products of matrices that lie in slices, by the `gemm` crate, which burn-flex uses too.
//!
//! The crate splits a product over threads by rows and columns, never along a sum, so that the bits do not depend on their
//! number.

use gemm::Parallelism;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A row-major matrix in a slice, to be written.
pub(crate) struct ViewMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

/// What happens to the numbers that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Replace,
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The thread that calls.
    Caller,
    /// All threads of rayon's pool.
    Pool,
}

impl<'a> View<'a> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> View<'a> {
        View::strided(values, rows, columns, columns)
    }

    /// A row-major matrix whose rows start `stride` values apart.
    pub(crate) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> View<'a> {
        View { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> View<'a> {
        View { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

impl<'a> ViewMut<'a> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> ViewMut<'a> {
        ViewMut { values, rows, columns, row_stride: columns }
    }

    /// A row-major matrix whose rows start `stride` values apart.
    pub(crate) fn strided(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> ViewMut<'a> {
        ViewMut { values, rows, columns, row_stride: stride }
    }
}

/// out = factor * a b, or out += factor * a b.
///
/// # Panics
/// If the sizes do not fit, or a view reaches beyond its slice.
pub(crate) fn multiply(out: ViewMut, a: View, b: View, factor: f32, write: Write, workers: Workers) {
    let (m, n, k) = (out.rows, out.columns, a.columns);
    assert_eq!((a.rows, b.rows, b.columns), (m, k, n), "sizes of a product");
    if m == 0 || n == 0 {
        return;
    }
    let reach = |rows: usize, columns: usize, row_stride: usize, column_stride: usize| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
    };
    assert!(out.row_stride >= n && reach(m, n, out.row_stride, 1) <= out.values.len(), "the product reaches beyond its slice");
    assert!(reach(m, k, a.row_stride, a.column_stride) <= a.values.len(), "the first factor reaches beyond its slice");
    assert!(reach(k, n, b.row_stride, b.column_stride) <= b.values.len(), "the second factor reaches beyond its slice");
    let parallelism = match workers {
        Workers::Caller => Parallelism::None,
        Workers::Pool => Parallelism::Rayon(0),
    };
    // SAFETY: every element of the three views lies in its slice, as asserted, and the product's are distinct because its rows
    // do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            write == Write::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 131) % 211) as f32 / 105.0 - 1.0).collect()
    }

    #[test]
    fn products_are_those_of_f64_for_every_layout() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 1, 33), (1, 40, 64), (70, 65, 129), (4, 6, 0)] {
            let (a, b) = (sample(m * k + k * m, 1), sample(k * n + n * k, 2));
            let layouts = [
                (View::new(&a, m, k), View::new(&b, k, n)),
                (View::new(&a, k, m).transposed(), View::new(&b, n, k).transposed()),
                (View::strided(&a, m, k, 2 * k), View::strided(&b, k, n, 2 * n)),
            ];
            for (a, b) in layouts {
                let (stride, start) = (n + 3, sample(m * (n + 3), 3));
                let mut out = start.clone();
                multiply(ViewMut::strided(&mut out, m, n, stride), a, b, 0.5, Write::Add, Workers::Caller);
                for row in 0..m {
                    for column in 0..stride {
                        let at = |view: View, row: usize, column: usize| {
                            f64::from(view.values[row * view.row_stride + column * view.column_stride])
                        };
                        let sum: f64 = (0..k).filter(|_| column < n).map(|i| at(a, row, i) * at(b, i, column.min(n - 1))).sum();
                        let expected = f64::from(start[row * stride + column]) + 0.5 * sum;
                        let found = f64::from(out[row * stride + column]);
                        assert!((found - expected).abs() < 1e-4, "{m} {n} {k} at {row},{column}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (m, n, k) = (300, 260, 1500);
        let (a, b) = (sample(m * k, 4), sample(k * n, 5));
        let product = |threads: usize, workers| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut out = vec![0.0; m * n];
                multiply(ViewMut::new(&mut out, m, n), View::new(&a, m, k), View::new(&b, k, n), 1.0, Write::Replace, workers);
                out
            })
        };
        let alone = product(1, Workers::Caller);
        for threads in [1, 2, 3, 7] {
            assert!(product(threads, Workers::Pool) == alone, "{threads} threads");
        }
    }
}
